"""Checkpoints: saving and loading them, and turning one into a model or another checkpoint."""
