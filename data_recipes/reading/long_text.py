"""Documents too long to hold: their text comes piece by piece, read anew each time it is gone through."""

from collections.abc import Callable, Iterator

# Beyond this a document is encoded and written piece by piece, and is not shuffled with others.
LONG_CHARACTERS = 16 * 2**20
CHUNK_CHARACTERS = 2**18


class LongText:
    """The text of a document of `length` characters; `read` gives it from the beginning, cut anywhere."""

    def __init__(self, read: Callable[[], Iterator[str]], length: int) -> None:
        self._read = read
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return self._read()

    def __str__(self) -> str:
        return "".join(self._read())


def is_long(text: str | LongText) -> bool:
    """Whether a document is encoded and written piece by piece; such a one has a batch of its own."""
    return isinstance(text, LongText) or len(text) > LONG_CHARACTERS


def chunks_of(text: str | LongText) -> Iterator[str]:
    """A text in chunks, cut anywhere."""
    if isinstance(text, LongText):
        yield from text
    else:
        for start in range(0, len(text), CHUNK_CHARACTERS):
            yield text[start : start + CHUNK_CHARACTERS]
