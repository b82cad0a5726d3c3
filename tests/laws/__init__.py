"""What holds of any plan, whatever a pipeline, its user or a library does: one file a law."""
