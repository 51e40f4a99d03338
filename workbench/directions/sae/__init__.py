"""Sparse autoencoders of others, read through SAELens."""
