"""Text to values, each with its place."""
