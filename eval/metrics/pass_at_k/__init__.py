"""Unbiased pass@k of generated programs, run isolated."""
