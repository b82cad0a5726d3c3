"""Quantization rules: which modules each takes, what its backend can do, and what goes together."""
