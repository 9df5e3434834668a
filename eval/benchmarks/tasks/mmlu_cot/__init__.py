"""MMLU by chain of thought, through a chat template."""
