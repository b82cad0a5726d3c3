"""Document to a frozen Plan: names, units, short forms."""
