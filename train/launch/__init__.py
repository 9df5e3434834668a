"""Processes: device and ranks, starting them, and how a launched script stops and reports its exit code."""
