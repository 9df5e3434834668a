"""What every reader returns: documents in batches, with the numbers of their files and rows; and rows made into texts.

A document too long to keep in memory comes piece by piece, read again from the file each time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from data_recipes.reading.text_columns import ArrowTexts, TextRun
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
    """A batch of texts with the numbers of their files and rows (int64), and how many characters they have together."""

    files: np.ndarray
    rows: np.ndarray
    texts: Sequence[str | LongText]
    characters: int


def batches(numbered: Iterable[tuple[int, int, str | LongText] | TextRun]) -> Iterator[Documents]:
    """Gather (file, row, text), and runs of texts, into batches of a few MiB; a long document is one of its own.

    What is in a batch does not depend on which of the texts come in runs.
    """
    held = _Held()
    for one in _long_ones_apart(numbered):
        if isinstance(one, TextRun):
            while len(one.rows):
                ends = held.characters + np.cumsum(one.lengths)
                fitting = min(int(np.searchsorted(ends, BATCH_CHARACTERS)) + 1, BATCH_DOCUMENTS - held.documents)
                taken, one = one[:fitting], one[fitting:]
                held.add(taken, len(taken.rows), int(taken.lengths.sum()))
                if held.is_full:
                    yield held.release()
        else:
            long = is_long(one[2])
            if long and held.documents:
                yield held.release()
            held.add(one, 1, len(one[2]))
            if long or held.is_full:
                yield held.release()
    if held.documents:
        yield held.release()


def _long_ones_apart(
    numbered: Iterable[tuple[int, int, str | LongText] | TextRun],
) -> Iterator[tuple[int, int, str | LongText] | TextRun]:
    """Runs without long documents, which come by themselves."""
    for one in numbered:
        if not isinstance(one, TextRun):
            yield one
            continue
        start = 0
        for place in np.flatnonzero(one.lengths > LONG_CHARACTERS).tolist():
            yield one[start:place]
            yield one.file, int(one.rows[place]), one.texts[place].as_py()
            start = place + 1
        yield one[start:]


class _Held:
    """What is gathered for the next batch."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, int, str | LongText] | TextRun] = []
        self.documents = self.characters = 0

    def add(self, piece: tuple[int, int, str | LongText] | TextRun, documents: int, characters: int) -> None:
        self._pieces.append(piece)
        self.documents += documents
        self.characters += characters

    @property
    def is_full(self) -> bool:
        return self.characters >= BATCH_CHARACTERS or self.documents >= BATCH_DOCUMENTS

    def release(self) -> Documents:
        """The batch; what comes then belongs to the next."""
        pieces, characters = self._pieces, self.characters
        self.__init__()  # type: ignore[misc]
        runs = [piece for piece in pieces if isinstance(piece, TextRun)]
        if len(runs) == len(pieces):
            files = np.repeat([run.file for run in runs], [len(run.rows) for run in runs])
            texts = runs[0].texts if len(runs) == 1 else pa.concat_arrays([run.texts for run in runs])
            return Documents(files, np.concatenate([run.rows for run in runs]), ArrowTexts(texts), characters)
        singles = [one for piece in pieces for one in ([piece] if isinstance(piece, tuple) else piece.singles())]
        numbers = np.array([one[:2] for one in singles], dtype=np.int64)
        return Documents(numbers[:, 0], numbers[:, 1], [one[2] for one in singles], characters)


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
