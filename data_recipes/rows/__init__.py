"""A built phase: what its folder holds, reading it, checking it, and tracing a row to its text."""
