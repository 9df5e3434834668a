"""User-facing errors of this package."""


class TrainError(ValueError):
    """Bad config, data folder or checkpoint. Says what was found, what was expected, what to do."""
