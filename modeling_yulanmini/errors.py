"""The error that bad model input raises."""


class CheckpointError(ValueError):
    """A model folder, config or tensor that cannot be used; the message names the file and the tensor or key."""
