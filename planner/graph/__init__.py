"""Plan and target to the walk over stages and who is alive when."""
