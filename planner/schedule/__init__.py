"""Graph to ordered steps with bytes after each, and the replay that distrusts them."""
