"""What step t does: its phase, rows and learning rate, and the batches that it reads."""
