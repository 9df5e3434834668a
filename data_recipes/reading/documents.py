"""What every reader returns: documents in batches, with the numbers of their files and rows; and rows made into texts.

A document too long to keep in memory comes piece by piece, read again from the file each time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import MissingColumn, NoDecoder

# What numbers a row: its place in a file, or the file's number and that.
Number = TypeVar("Number")
# A row, or the reason why there is none at this place of a file.
Row = Mapping[str, Any] | str

BATCH_CHARACTERS = 4 * 2**20
BATCH_DOCUMENTS = 16_384
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


@dataclass(frozen=True)
class Documents:
    """A batch of texts with the numbers of their files and rows (int64)."""

    files: np.ndarray
    rows: np.ndarray
    texts: list[str | LongText]


def batches(numbered: Iterable[tuple[int, int, str | LongText]]) -> Iterator[Documents]:
    """Gather (file, row, text) into batches of a few MiB; a long document is one of its own."""
    held: list[tuple[int, int, str | LongText]] = []
    size = 0
    for file, row, text in numbered:
        if held and is_long(text):
            yield _batch(held)
            held, size = [], 0
        held.append((file, row, text))
        size += len(text)
        if size >= BATCH_CHARACTERS or len(held) >= BATCH_DOCUMENTS or is_long(text):
            yield _batch(held)
            held, size = [], 0
    if held:
        yield _batch(held)


def _batch(numbered: list[tuple[int, int, str | LongText]]) -> Documents:
    files, rows, texts = zip(*numbered, strict=True)
    return Documents(np.array(files, dtype=np.int64), np.array(rows, dtype=np.int64), list(texts))


def texts_of_rows(
    source: Source, rows: Iterable[tuple[Number, Row]], drops: Counter[str]
) -> Iterator[tuple[Number, str]]:
    """Numbered rows to numbered texts by the source's filters and column or template; the others are counted."""
    render: Callable[[Mapping[str, Any]], str] = source.renderer()
    for number, row in rows:
        if isinstance(row, str):
            drops[row] += 1
            continue
        if source.filters and not source.keeps(row):
            drops["filtered"] += 1
            continue
        try:
            text = render(row)
        except MissingColumn as error:
            drops[f"no column '{error.column}'"] += 1
            continue
        except NoDecoder:
            raise
        except (ValueError, TypeError, KeyError):
            drops["template does not fit"] += 1
            continue
        if is_usable(text, drops):
            yield number, text


def is_usable(text: str, drops: Counter[str]) -> bool:
    """Whether a text can be a document; if not, the reason is counted."""
    if not text or text.isspace():
        drops["empty"] += 1
        return False
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate, from "\ud800" in JSON
            drops["not UTF-8"] += 1
            return False
    return True
