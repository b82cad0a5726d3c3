"""Sources to loaded pipelines."""
