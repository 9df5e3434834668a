"""Studies of training dynamics that a reader can run: coordinate check, learning-rate transfer, stability."""
