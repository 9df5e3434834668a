"""Training dynamics of a series of checkpoints: norms, scales, variances, logits and loss, one row a checkpoint."""
