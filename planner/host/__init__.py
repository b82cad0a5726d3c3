"""Weights in host memory: packed, registered, laid out for few copies."""
