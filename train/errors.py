"""What this room raises when its input is at fault: the message is all that a user sees."""


class TrainError(ValueError):
    """Bad config, data folder or checkpoint. Says what was found, what was expected, what to do."""
