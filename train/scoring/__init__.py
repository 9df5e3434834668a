"""Scores of a model while it trains: held-out loss, and downstream tasks at the ends of phases."""
