"""GSM8K by chain of thought, by program, and through a chat template."""
