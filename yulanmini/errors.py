"""What the front raises when a run folder or a request is at fault: the message is all that a user sees."""


class RunError(ValueError):
    """Bad run folder, scale or phase range. Says what was found, what was expected, what to do."""
