"""The plan language as a JSON Schema: each file has the keys of one thing that a plan speaks of."""
