"""Graph to graph: the same meaning, cheaper."""
