"""User-facing errors of this package."""


class EvalError(ValueError):
    """Bad model folder, task or score file. Says what was found, what was expected, what to do."""
