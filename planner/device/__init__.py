"""The one protocol through which weights reach an accelerator."""
