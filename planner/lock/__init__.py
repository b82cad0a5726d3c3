"""A compiled plan kept as a file beside it: what it was compiled from, and to what. No torch."""
