"""A plan's way from its text to a schedule, stage by stage."""
