"""Convolutions that a CPU computes faster in another way."""
