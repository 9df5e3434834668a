"""Held-out loss of a model, the same while it trains and in evaluation."""
