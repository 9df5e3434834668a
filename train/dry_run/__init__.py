"""What a run would do and need, without starting it."""
