"""What can be wrong, where, and how it is shown."""
