"""The codes, one file a stage; planner.diagnostics.codes joins them."""
