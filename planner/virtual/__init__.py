"""The virtual accelerator sim:0, its ledger and its audit."""
