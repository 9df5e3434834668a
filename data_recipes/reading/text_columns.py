"""Texts from a file's column to the encoder as Arrow arrays, without a Python string and with the lock of Python free.

This is the fast way for sources whose text is one column, and gives the very documents that the way by rows gives:
where a block of a file holds anything out of the ordinary, it says so, and that block is read by rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class TextRun:
    """Texts of a file (by its number) in one string array without nulls; int64 `rows`, and `lengths` in characters."""

    file: int
    texts: pa.Array
    rows: np.ndarray
    lengths: np.ndarray

    def __getitem__(self, part: slice) -> "TextRun":
        return TextRun(self.file, self.texts[part], self.rows[part], self.lengths[part])

    def singles(self) -> Iterator[tuple[int, int, str]]:
        """(file, row, text) of each."""
        return ((self.file, *one) for one in zip(self.rows.tolist(), self.texts.to_pylist(), strict=True))


class ArrowTexts(Sequence[str]):
    """A string array as a sequence of strings, which are made when they are looked at."""

    def __init__(self, array: pa.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "ArrowTexts": ...
    def __getitem__(self, place: int | slice) -> "str | ArrowTexts":
        return ArrowTexts(self.array[place]) if isinstance(place, slice) else self.array[place].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self.array.to_pylist())


def usable_run(file: int, texts: pa.Array, rows: np.ndarray, drops: Counter[str]) -> TextRun:
    """The texts that can be documents; the others are counted, as `documents.is_usable` does."""
    texts = texts.cast(pa.large_string())
    lengths = np.empty(len(texts), np.int64)
    _count_characters(*starts_and_content(texts), lengths)
    empty = np.asarray(pc.utf8_is_space(texts).to_numpy(zero_copy_only=False)) | (lengths == 0)
    if empty.any():
        drops["empty"] += int(empty.sum())
        texts, rows, lengths = texts.filter(pa.array(~empty)), rows[~empty], lengths[~empty]
    return TextRun(file, texts, rows, lengths)


def starts_and_content(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Where each text begins, and the last ends (int64); and all their bytes: the memory of the array itself."""
    _, starts, content = texts.buffers()
    whole = np.frombuffer(content, np.uint8) if content else np.frombuffer(b"", np.uint8)
    return np.frombuffer(starts, np.int64, len(texts) + 1, 8 * texts.offset), whole


@numba.njit(cache=True, nogil=True)
def _count_characters(starts, content, lengths):  # pragma: no cover - compiled
    """A quarter of the time of `pyarrow.compute.utf8_length`: as `json_column.newlines_in`."""
    for number in range(len(lengths)):
        text = content[starts[number] : starts[number + 1]]
        count: Any = 0
        for begin in range(0, len(text), 255):
            few: Any = np.uint8(0)
            for place in range(begin, min(begin + 255, len(text))):
                few = np.uint8(few + np.uint8(text[np.uint64(place)] & np.uint8(0xC0) != np.uint8(0x80)))
            count += few
        lengths[number] = count
