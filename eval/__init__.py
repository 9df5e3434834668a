"""Evaluation: held-out loss, generated problems, and the suites of the report."""
