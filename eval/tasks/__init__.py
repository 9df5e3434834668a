"""What a model can be scored on, one task a file."""
