"""Quantized forms of weights: what they are made of, how they are made and taken back."""
