"""Bits per byte of text, from its negative log-likelihood."""
