"""What this room raises when its input is at fault: the message is all that a user sees."""


class DataError(ValueError):
    """Bad recipe, source, corpus or built folder. Says what was found, what was expected, what to do."""


def first_line(error: BaseException) -> str:
    """What an error says first; its class's name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
