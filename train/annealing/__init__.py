"""Annealing from a checkpoint: what it is, and the run that follows from it."""
