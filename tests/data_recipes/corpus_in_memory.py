"""A corpus for tests of steps that compare documents: texts in memory, verdicts in a dictionary."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_recipes.cleaning.steps.base import Batch, CorpusStep

Place = tuple[int, int]


@dataclass
class CorpusInMemory:
    """Units of texts of one source each."""

    folder: Path
    step: CorpusStep[Any]
    texts_of_units: list[list[str]]
    source_of_units: list[int] | None = None
    excluded: set[Place] = field(default_factory=set)
    copies: dict[Place, Place | None] = field(default_factory=dict)
    read: list[Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.source_of_units = self.source_of_units or [0] * len(self.texts_of_units)
        self.sources = [f"source-{number}" for number in range(max(self.source_of_units) + 1)]
        self._signals = [self._signals_of(texts) for texts in self.texts_of_units]

    def _signals_of(self, texts: list[str]) -> pa.Table:
        columns = self.step.signals(Batch("source", ["file"] * len(texts), texts, {}))
        return pa.table(columns, schema=self.step.schema())

    def units(self) -> int:
        return len(self.texts_of_units)

    def origin(self, unit: int) -> pa.Table:
        texts = self.texts_of_units[unit]
        assert self.source_of_units is not None
        return pa.table(
            {
                "source": pa.array([self.source_of_units[unit]] * len(texts), pa.int32()),
                "file": ["file"] * len(texts),
                "row": list(range(len(texts))),
                "characters": [len(text) for text in texts],
            }
        )

    def taking_part(self, unit: int) -> np.ndarray:
        return np.array([(unit, row) not in self.excluded for row in range(len(self.texts_of_units[unit]))], dtype=bool)

    def signals(self, unit: int) -> pa.Table:
        return self._signals[unit]

    def texts(self, unit: int, rows: Sequence[int]) -> list[str]:
        assert list(rows) == sorted(rows)
        self.read += [(unit, row) for row in rows]
        return [self.texts_of_units[unit][row] for row in rows]

    def write_verdicts(
        self, unit: int, rows: Sequence[int], reasons: Sequence[str], copies_of: Sequence[Place | None]
    ) -> None:
        assert all(reasons)
        assert len(rows) == len(reasons) == len(copies_of) == len(set(rows))
        self.copies.update({(unit, row): copy for row, copy in zip(rows, copies_of, strict=True)})

    def run(self, tasks: int = 1) -> dict[Place, Place | None]:
        """All stages, by several tasks one after the other; the verdicts."""
        for stage in self.step.stages(self):
            for rank in range(1 if stage.alone else tasks):
                stage.run(rank, 1 if stage.alone else tasks)
        return self.copies

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def rank(self, place: Place) -> tuple[int, int, Place]:
        """Which of two documents goes before the other."""
        assert self.source_of_units is not None
        return self.source_of_units[place[0]], -len(self.texts_of_units[place[0]][place[1]]), place
