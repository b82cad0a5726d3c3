"""``plan fit``: of all that a plan may say, what takes the least time in a memory, and a bound for it."""
