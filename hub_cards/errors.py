"""What this room raises when its input is at fault: the message is all that a user sees."""


class HubError(ValueError):
    """Bad card, repo layout or score file. Says what was found, what was expected, what to do."""
