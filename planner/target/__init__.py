"""What a plan is for: a pipeline class, a folder or a loaded pipeline."""
