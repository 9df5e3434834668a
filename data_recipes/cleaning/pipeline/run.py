"""A run: a config, its inputs and its folder; where everything lies in there, and what it was made from.

Picklable, and the same on every machine that sees the folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from data_recipes.cleaning.config import CleaningConfig
from data_recipes.cleaning.pipeline.inputs import InputSource, Units
from data_recipes.cleaning.pipeline.unit_files import read_record, unit_name
from data_recipes.cleaning.steps.base import AnyStep, CorpusStep, Step, columns_of
from data_recipes.manifest import MANIFEST_NAME, fingerprint_of

KIND = "cleaned-text"
SHORT = 16


@dataclass(frozen=True)
class UnitPlace:
    """A unit's file at one place of the run, and its record."""

    file: Path
    record: Path


@dataclass(frozen=True, eq=False)
class Run:
    """`out` is absolute."""

    config: CleaningConfig
    inputs: tuple[InputSource, ...]
    out: Path

    @property
    def work(self) -> Path:
        return self.out / "work"

    @property
    def units(self) -> Units:
        """The list of units, once it is made."""
        stat = (self.work / "units.json").stat() if (self.work / "units.json").is_file() else None
        return _units(self.work, None if stat is None else (stat.st_ino, stat.st_mtime_ns))

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do: the first stage removes a manifest that is not this run's."""
        return (self.out / MANIFEST_NAME).is_file()

    def share(self, rank: int, tasks: int) -> Iterator[int]:
        """The units of one of several tasks."""
        return iter(range(rank, len(self.units), tasks))

    def texts(self, unit: int) -> UnitPlace:
        return self._place("texts", unit)

    def signals(self, step: AnyStep, unit: int) -> UnitPlace:
        return self._place(f"signals/{step.settings.step}-{self._signals_name(step)[:SHORT]}", unit)

    def answers(self, step: AnyStep, unit: int) -> Path:
        """Where a costly step keeps what it was told, whatever its settings: what was asked tells answers apart."""
        return self.work / "answers" / step.settings.step / f"{unit_name(unit)}.jsonl"

    def verdicts(self, number: int, unit: int) -> UnitPlace:
        return self._place(f"verdicts/{self._corpus_name(number)}", unit)

    def own_folder(self, number: int) -> Path:
        """A corpus step's own, for what it keeps between its stages."""
        return self.work / "corpus" / self._corpus_name(number)

    def written(self, unit: int) -> Path:
        """The record of the files that the run gives out."""
        return self.work / "written" / f"{unit_name(unit)}.json"

    def made_from(self, what: str) -> str:
        """A fingerprint for records: the inputs, and what else the files depend on."""
        return fingerprint_of([self.units.fingerprint, what])

    def texts_record(self, unit: int) -> dict | None:
        return read_record(self.texts(unit).record, made_from=self.made_from(self.config.reading))

    def signals_record(self, step: AnyStep, unit: int) -> dict | None:
        made_from = self.made_from(self._signals_name(step))
        return read_record(self.signals(step, unit).record, made_from=made_from)

    def signals_made_from(self, step: AnyStep) -> str:
        return self.made_from(self._signals_name(step))

    def verdicts_record(self, number: int, unit: int) -> dict | None:
        return read_record(self.verdicts(number, unit).record, made_from=self.made_from(self.config.chain[number]))

    def written_record(self, unit: int) -> dict | None:
        return read_record(self.written(unit), made_from=self.made_from(self.config.chain[-1]))

    def _signals_name(self, step: AnyStep) -> str:
        return fingerprint_of([self.config.reading, step.fingerprint()])

    def _corpus_name(self, number: int) -> str:
        return f"{self.config.steps[number].settings.step}-{self.config.chain[number][:SHORT]}"

    def _place(self, folder: str, unit: int) -> UnitPlace:
        place = self.work / folder
        return UnitPlace(place / f"{unit_name(unit)}.parquet", place / f"{unit_name(unit)}.json")


@lru_cache(maxsize=4)
def _units(work: Path, state: tuple[int, int] | None) -> Units:
    return Units(work)


def with_signals(config: CleaningConfig) -> list[tuple[Step | CorpusStep, list[int]]]:
    """The steps that add columns, each once, with all its numbers: it may stand there again with other thresholds."""
    found: dict[str, tuple[Step | CorpusStep, list[int]]] = {}
    for number, step in enumerate(config.steps):
        if isinstance(step, Step | CorpusStep):
            found.setdefault(step.fingerprint(), (step, []))[1].append(number)
    return list(found.values())


def is_costly(step: AnyStep) -> bool:
    return isinstance(step, Step) and step.costly


def shown_columns(step: Step | CorpusStep) -> list[str]:
    """The columns of a step that are given out: all but binary ones."""
    hidden = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return [field.name for field in columns_of(step) if not any(test(field.type) for test in hidden)]
