"""A schedule at work on a loaded pipeline."""
