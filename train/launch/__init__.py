"""Processes: device and ranks, starting them, and what a launched script owes its launcher."""
