"""What this room raises when its input is at fault: the message is all that a user sees."""


class DataError(ValueError):
    """Bad recipe, source, corpus or built folder. Says what was found, what was expected, what to do."""
