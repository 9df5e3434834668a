"""Which document is dropped by which step and why: from columns and thresholds, never from texts.

A document is dropped by the first step of the config that gives a reason. Steps that compare documents have left their
verdicts in files; those of the others are computed each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_recipes.cleaning.pipeline.run import Run
from data_recipes.cleaning.pipeline.unit_files import open_parquet, read_columns, write_record, writing_parquet
from data_recipes.cleaning.steps.base import AnyStep, CorpusStep, Rewrite, Step, columns_of
from data_recipes.errors import DataError

KEPT = -2
IN_READING = -1
"""Instead of the number of a step: a row that gave no document."""
VERDICTS = pa.schema(
    [("row", pa.int64()), ("reason", pa.string()), ("copy_unit", pa.int64()), ("copy_row", pa.int64())]
)


@dataclass
class Judgement:
    """Of each document of a unit the number of the step that drops it (`KEPT`, `IN_READING`), and why."""

    steps: np.ndarray
    reasons: np.ndarray
    """Of objects: a text, None where the document is kept."""

    @property
    def kept(self) -> np.ndarray:
        return self.steps == KEPT

    def drop(self, rows: np.ndarray, step: int, reasons: Sequence[str]) -> None:
        self.steps[rows] = step
        self.reasons[rows] = np.array(reasons, dtype=object)


def judge(run: Run, unit: int, upto: int | None = None) -> Judgement:
    """The verdicts of the first `upto` steps (all by default) on a unit's documents."""
    found = _after_reading(run, unit)
    for number, step in enumerate(run.config.steps[:upto]):
        if isinstance(step, CorpusStep):
            place = run.verdicts(number, unit)
            verdicts = read_columns(place.file, place.record, ["row", "reason"])
            found.drop(verdicts["row"].to_numpy(), number, verdicts["reason"].to_pylist())
        elif isinstance(step, Step):
            judged = np.flatnonzero(found.kept & chosen(run, unit, step))
            reasons = step.reasons(run.units.source_name(unit), signals_of(run, step, unit).take(judged))
            if len(reasons) != len(judged):
                raise ValueError(f"step '{step.settings.step}': {len(reasons)} reasons for {len(judged)} documents.")
            dropped = [place for place, reason in enumerate(reasons) if reason is not None]
            found.drop(judged[dropped], number, [str(reasons[place]) for place in dropped])
    return found


def _after_reading(run: Run, unit: int) -> Judgement:
    place = run.texts(unit)
    table = read_columns(place.file, place.record, ["step", "reason"])
    names = [step.settings.step for step in run.config.steps if isinstance(step, Rewrite)]
    numbers = {None: KEPT, **{name: number for number, name in enumerate(names)}}
    steps = [numbers.get(name, IN_READING) for name in table["step"].to_pylist()]
    return Judgement(np.array(steps, dtype=np.int64), np.array(table["reason"].to_pylist(), dtype=object))


def signals_of(run: Run, step: Step | CorpusStep, unit: int) -> pa.Table:
    """The columns of a step, a row a document."""
    place = run.signals(step, unit)
    table = read_columns(place.file, place.record, step.schema().names)
    if not isinstance(step, Step):
        return table
    derived = step.derived(table)
    for field in step.derived_schema():
        table = table.append_column(field, pa.array(derived[field.name], field.type))
    return table


def chosen(run: Run, unit: int, step: AnyStep) -> np.ndarray:
    """bool, the documents that a step's `only` names; all of them where it has none."""
    rows = rows_of_texts(run, unit)
    mask = np.ones(rows, dtype=bool)
    for column, values in step.settings.only.items():
        if column == "source":
            mask &= run.units.source_name(unit) in values
            continue
        found = signals_of(run, _owner(run, column), unit)[column]
        mask &= pc.is_in(found, pa.array(values, found.type)).to_numpy(zero_copy_only=False)
    return mask


def _owner(run: Run, column: str) -> Step | CorpusStep:
    """The step that a column is of."""
    return next(
        step for step in run.config.steps if isinstance(step, Step | CorpusStep) and column in columns_of(step).names
    )


def rows_of_texts(run: Run, unit: int) -> int:
    """How many documents a unit has, dropped ones included."""
    place = run.texts(unit)
    with open_parquet(place.file, place.record) as parquet:
        return parquet.metadata.num_rows


def judges(run: Run, unit: int, number: int) -> np.ndarray:
    """bool, the documents of a unit that a step judges: kept by the steps before it, and named by its `only`."""
    return judge(run, unit, number).kept & chosen(run, unit, run.config.steps[number])


@dataclass(frozen=True)
class CorpusOfRun:
    """`data_recipes.cleaning.steps.base.Corpus` for the step of this number."""

    run: Run
    number: int

    @property
    def folder(self) -> Path:
        folder = self.run.own_folder(self.number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def sources(self) -> list[str]:
        return [one.name for one in self.run.inputs]

    def units(self) -> int:
        return len(self.run.units)

    def origin(self, unit: int) -> pa.Table:
        place = self.run.texts(unit)
        table = read_columns(place.file, place.record, ["file", "row", "characters"])
        source = pa.array(np.full(len(table), self.run.units.source(unit), dtype=np.int32))
        return table.add_column(0, "source", source)

    def taking_part(self, unit: int) -> np.ndarray:
        return _taking_part(self, unit).copy()

    def signals(self, unit: int) -> pa.Table:
        step = self.run.config.steps[self.number]
        assert isinstance(step, CorpusStep)
        return signals_of(self.run, step, unit)

    def values(self, unit: int, column: str) -> pa.ChunkedArray:
        return signals_of(self.run, _owner(self.run, column), unit)[column]

    def texts(self, unit: int, rows: Sequence[int]) -> list[str]:
        place = self.run.texts(unit)
        wanted = np.asarray(rows, dtype=np.int64)
        found: list[str] = []
        first = 0
        with open_parquet(place.file, place.record) as parquet:
            for group in range(parquet.num_row_groups):
                last = first + parquet.metadata.row_group(group).num_rows
                inside = wanted[(wanted >= first) & (wanted < last)] - first
                if len(inside):
                    table = parquet.read_row_group(group, columns=["text"], use_threads=False)
                    found += table["text"].take(inside).to_pylist()
                first = last
        return found

    def write_verdicts(
        self, unit: int, rows: Sequence[int], reasons: Sequence[str], copies_of: Sequence[tuple[int, int] | None]
    ) -> None:
        place = self.run.verdicts(self.number, unit)
        table = pa.table(
            {
                "row": pa.array(rows, pa.int64()),
                "reason": pa.array(reasons, pa.string()),
                "copy_unit": pa.array([None if copy is None else copy[0] for copy in copies_of], pa.int64()),
                "copy_row": pa.array([None if copy is None else copy[1] for copy in copies_of], pa.int64()),
            },
            schema=VERDICTS,
        )
        taking_part = self.taking_part(unit)
        if len(table) and not taking_part[table["row"].to_numpy()].all():
            raise ValueError(f"unit {unit}: a verdict on a document that takes no part.")
        with writing_parquet(place.file, VERDICTS) as (sink, file):
            sink.write(table)
        write_record(
            place.record,
            made_from=self.run.made_from(self.run.config.chain[self.number]),
            files={place.file.name: file.record},
            taking_part=int(taking_part.sum()),
            dropped=len(table),
        )

    def is_judged(self) -> bool:
        """Whether the verdicts on all units are there."""
        return all(self.run.verdicts_record(self.number, unit) is not None for unit in range(self.units()))


# A step asks several times for the same units in its stages.
@lru_cache(maxsize=64)
def _taking_part(corpus: CorpusOfRun, unit: int) -> np.ndarray:
    return judges(corpus.run, unit, corpus.number)


def check_loss(run: Run) -> None:
    """`DataError` where a step would drop more of a source's documents than the config allows."""
    if run.is_finished:
        return
    most = run.config.settings.most_lost_of_a_source
    for number, label in enumerate(run.config.labels()):
        step = run.config.steps[number]
        if not isinstance(step, CorpusStep) or step.may_drop_most:
            continue
        for source, (taking_part, dropped) in _losses(run, number).items():
            if dropped > most * taking_part:
                raise DataError(
                    f"source '{source}': '{label}' would drop {dropped:,} of its {taking_part:,} documents "
                    f"({dropped / taking_part:.1%}), more than most_lost_of_a_source ({most:.1%}). Nothing is written "
                    "yet.\nIs it a copy of another source, or a threshold wrong? If it is meant, raise "
                    "most_lost_of_a_source and give the same command again: nothing is computed twice."
                )


def _losses(run: Run, number: int) -> dict[str, tuple[int, int]]:
    """By source: documents that took part in a step, and those that it drops."""
    losses: dict[str, tuple[int, int]] = {}
    for unit in range(len(run.units)):
        record = run.verdicts_record(number, unit)
        if record is None:
            raise DataError(
                f"{run.verdicts(number, unit).file}: missing or damaged. Give the same command again: it is made again."
            )
        before = losses.get(run.units.source_name(unit), (0, 0))
        losses[run.units.source_name(unit)] = (before[0] + record["taking_part"], before[1] + record["dropped"])
    return losses
