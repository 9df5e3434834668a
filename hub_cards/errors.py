"""User-facing errors of this package."""


class HubError(ValueError):
    """Bad card, repo layout or score file. Says what was found, what was expected, what to do."""
