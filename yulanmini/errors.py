"""User-facing errors of this package."""


class RunError(ValueError):
    """Bad run folder, scale or phase range. Says what was found, what was expected, what to do."""
