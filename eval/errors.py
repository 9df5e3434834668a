"""What this room raises when its input is at fault: the message is all that a user sees."""


class EvalError(ValueError):
    """Bad model folder, task or score file. Says what was found, what was expected, what to do."""
