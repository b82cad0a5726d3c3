"""How fast a plan is, beside the same pipeline resident and beside every peer that is installed."""
