"""User-facing errors of this package, and two functions that messages everywhere use."""

from collections.abc import Iterable
from difflib import get_close_matches


class DataError(ValueError):
    """Bad recipe, source, corpus or built folder. Says what was found, what was expected, what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its class's name where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message: the nearest known word (`Did you mean 'X'?`), or the known ones where none is near."""
    known = list(known)
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(known[:30])}{', ...' if len(known) > 30 else ''}."
