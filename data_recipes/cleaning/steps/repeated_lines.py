"""Runs of lines that hardly differ in what programs printed: progress bars, logs, tables of numbers.

It is the de-duplication of lines by text distance that the report's notebooks went through, whose distance was not
published. Only blocks of Markdown without a language are looked at, in which `notebooks-to-markdown` puts outputs: in
code lines that are much alike all matter.
"""

import re
from typing import ClassVar

import numba
import numpy as np
from pydantic import Field

from data_recipes.cleaning.steps.base import Batch, Rewrite, StepSettings

# Fences longer than any real one are none, so that hostile texts are not searched once for each length.
BLOCK = re.compile(r"^(`{3,20})\n(.*?\n)\1$", re.MULTILINE | re.DOTALL)
LEFT_OUT = "..."
COMPARED_CHARACTERS = 200
"""Of a line; the time that a comparison takes grows with its square."""


class RepeatedLinesSettings(StepSettings):
    """Of a run of lines each similar to the one before, the first `kept` and the last stay."""

    similarity: float = Field(0.7, gt=0, le=1)
    """1 less the characters to be changed, put in or taken out, as a share of the longer line."""
    kept: int = Field(3, ge=1)


class RepeatedLines(Rewrite[RepeatedLinesSettings]):
    """Puts `...` in the place of the middle of long runs of similar lines."""

    name: ClassVar[str] = "repeated-lines"
    Settings: ClassVar[type[StepSettings]] = RepeatedLinesSettings

    def rewrite(self, batch: Batch) -> list[str | None]:
        return [BLOCK.sub(self._thinned, text) if "```\n" in text else text for text in batch.texts]

    def _thinned(self, block: re.Match[str]) -> str:
        lines = block[2].split("\n")[:-1]
        if len(lines) < self.settings.kept + 3:  # a line in the place of another saves nothing
            return block[0]
        starts = np.flatnonzero(~similar_to_previous(lines, self.settings.similarity))
        result = [block[1]]
        for first, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            run = lines[first:end]
            if len(run) < self.settings.kept + 3:
                result += run
            else:
                result += [*run[: self.settings.kept], LEFT_OUT, run[-1]]
        return "\n".join([*result, block[1]])


def similar_to_previous(lines: list[str], similarity: float) -> np.ndarray:
    """bool, whether each line is similar to the one before; an empty one is to none."""
    lines = [line[:COMPARED_CHARACTERS] for line in lines]
    characters = np.frombuffer("".join(lines).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
    return _similar_to_previous(characters, ends, similarity)


@numba.njit(cache=True, nogil=True)
def _similar_to_previous(characters, ends, similarity):  # pragma: no cover - compiled
    similar = np.zeros(len(ends), dtype=np.bool_)
    start = 0
    for line in range(1, len(ends)):
        one = characters[start : ends[line - 1]]
        other = characters[ends[line - 1] : ends[line]]
        start = ends[line - 1]
        if len(one) and len(other):
            longer = max(len(one), len(other))
            # The lengths differ by at most the distance, and are quick to compare.
            if longer - min(len(one), len(other)) <= (1 - similarity) * longer + 1e-9:
                similar[line] = edit_distance(one, other) <= (1 - similarity) * longer + 1e-9
    return similar


@numba.njit(cache=True, nogil=True)
def edit_distance(one, other):  # pragma: no cover - compiled
    """Characters to be changed, put in or taken out to make one array of the other."""
    first = 0
    while first < min(len(one), len(other)) and one[first] == other[first]:
        first += 1
    last = 0
    while last < min(len(one), len(other)) - first and one[len(one) - 1 - last] == other[len(other) - 1 - last]:
        last += 1
    one = one[first : len(one) - last]
    other = other[first : len(other) - last]
    row = np.arange(len(other) + 1)
    for left in range(len(one)):
        diagonal = row[0]
        row[0] += 1
        for right in range(len(other)):
            changed = diagonal + (one[left] != other[right])
            diagonal = row[right + 1]
            row[right + 1] = min(changed, min(row[right], row[right + 1]) + 1)
    return row[len(other)]
