"""A plan behind HTTP, by Ray Serve: requests are checked, and each device runs one call at a time."""
