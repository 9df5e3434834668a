"""The stage that gives out documents: kept and dropped ones of each unit, and what the summary says of them."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa

from data_recipes.cleaning.pipeline.distributions import counts_by_value
from data_recipes.cleaning.pipeline.documents import READING
from data_recipes.cleaning.pipeline.run import Run, is_costly, shown_columns, with_signals
from data_recipes.cleaning.pipeline.samples import Chosen, choose, with_text
from data_recipes.cleaning.pipeline.signals import kept_tables
from data_recipes.cleaning.pipeline.unit_files import (
    ParquetFile,
    read_columns,
    unit_name,
    write_record,
    writing_parquet,
)
from data_recipes.cleaning.pipeline.verdicts import IN_READING, KEPT, VERDICTS, Judgement, chosen, judge, signals_of
from data_recipes.cleaning.steps.base import CorpusStep

KEPT_FOLDER, DROPPED_FOLDER = "kept", "dropped"
ROW_GROUP_CHARACTERS = 16 * 2**20
ROW_GROUP_ROWS = 65_536
COPY = pa.struct([("source", pa.string()), ("file", pa.string()), ("row", pa.int64())])


def write_documents(run: Run, rank: int, tasks: int) -> None:
    """`kept` and `dropped` of a task's share of the units."""
    if run.is_finished:
        return
    for unit in run.share(rank, tasks):
        if run.written_record(unit) is None:
            _write_unit(run, unit)


def _write_unit(run: Run, unit: int) -> None:
    verdicts = judge(run, unit)
    judged = _judged(run, unit, verdicts)
    signals = _shown_signals(run, unit, judged)
    samples = choose(run, unit, verdicts, judged, signals)
    kept_schema = pa.schema(
        [("text", pa.string()), ("source", pa.string()), ("file", pa.string()), ("row", pa.int64()), *signals.schema]
    )
    dropped_schema = pa.schema([*kept_schema, ("step", pa.string()), ("reason", pa.string()), ("copy_of", COPY)])
    name = f"{unit_name(unit)}.parquet"
    paths = [run.out / KEPT_FOLDER / name, run.out / DROPPED_FOLDER / name]
    with ExitStack() as stack:
        kept_sink, kept_file = stack.enter_context(writing_parquet(paths[0], kept_schema))
        dropped_sink, dropped_file = stack.enter_context(writing_parquet(paths[1], dropped_schema))
        why = _why(run, unit, verdicts)
        kept_groups, dropped_groups = RowGroups(kept_sink), RowGroups(dropped_sink)
        first = 0
        for table in kept_tables(run, unit):
            last = first + len(table)
            with_text(samples, table, first)
            whole = _origin(run, unit, table, signals.slice(first, len(table)))
            mask = verdicts.kept[first:last]
            kept_groups.add(whole.filter(pa.array(mask)).cast(kept_schema))
            dropped = whole.filter(pa.array(~mask))
            for column in why.schema:
                dropped = dropped.append_column(
                    column, why.slice(first, len(table)).filter(pa.array(~mask))[column.name]
                )
            dropped_groups.add(dropped.cast(dropped_schema))
            first = last
        kept_groups.flush()
        dropped_groups.flush()
    record = run.written(unit)
    files = zip(paths, (kept_file, dropped_file), strict=True)
    write_record(
        record,
        made_from=run.made_from(run.config.chain[-1]),
        files={os.path.relpath(path, record.parent): file.record for path, file in files},
        source=run.units.source_name(unit),
        funnel=_funnel(run, unit, verdicts),
        distributions=_distributions(signals, run, judged),
        samples=[sample.as_json() for sample in samples],
    )


class RowGroups:
    """Tables gathered into row groups of a size that is good to read."""

    def __init__(self, sink: ParquetFile) -> None:
        self._sink = sink
        self._held: list[pa.Table] = []
        self._bytes = self._rows = 0

    def add(self, table: pa.Table) -> None:
        self._held.append(table)
        self._rows += len(table)
        self._bytes += table["text"].nbytes
        if self._bytes >= ROW_GROUP_CHARACTERS or self._rows >= ROW_GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._sink.write(pa.concat_tables(self._held).combine_chunks())
        self._held, self._bytes, self._rows = [], 0, 0


def _judged(run: Run, unit: int, verdicts: Judgement) -> list[np.ndarray]:
    """bool, for each step the documents that it judged."""
    return [
        ((verdicts.steps == KEPT) | (verdicts.steps >= number)) & chosen(run, unit, step)
        for number, step in enumerate(run.config.steps)
    ]


def _shown_signals(run: Run, unit: int, judged: list[np.ndarray]) -> pa.Table:
    """The columns of all steps; null where a step does not apply, or a costly one was not asked.

    So they do not depend on what earlier runs with other thresholds have computed.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for step, numbers in with_signals(run.config):
        names = shown_columns(step)
        if not names:
            continue
        table = signals_of(run, step, unit).select(names)
        masks = [judged[one] if is_costly(step) else chosen(run, unit, run.config.steps[one]) for one in numbers]
        mask = np.logical_or.reduce(masks)
        if not mask.all():
            table = table.take(pa.array(np.arange(len(mask)), mask=~mask))
        columns |= {name: table[name] for name in names}
    return pa.table(columns) if columns else pa.table({"": pa.nulls(len(judged[0]))}).select([])


def _origin(run: Run, unit: int, texts: pa.Table, signals: pa.Table) -> pa.Table:
    columns = {
        "text": texts["text"],
        "source": pa.array([run.units.source_name(unit)] * len(texts), pa.string()),
        "file": texts["file"],
        "row": texts["row"],
        **{name: signals[name] for name in signals.column_names},
    }
    return pa.table(columns)


def _why(run: Run, unit: int, verdicts: Judgement) -> pa.Table:
    """`step`, `reason` and `copy_of` of every document, null where it is kept."""
    names = {KEPT: None, IN_READING: READING}
    names |= {number: step.settings.step for number, step in enumerate(run.config.steps)}
    steps = [names[number] for number in verdicts.steps.tolist()]
    return pa.table(
        {
            "step": pa.array(steps, pa.string()),
            "reason": pa.array(verdicts.reasons.tolist(), pa.string()),
            "copy_of": _copies(run, unit, verdicts),
        }
    )


def _copies(run: Run, unit: int, verdicts: Judgement) -> pa.ChunkedArray:
    """Of each document that was dropped as a copy, the one that it is a copy of."""
    tables = [VERDICTS.empty_table()]
    for number, step in enumerate(run.config.steps):
        if isinstance(step, CorpusStep):
            place = run.verdicts(number, unit)
            tables.append(read_columns(place.file, place.record, VERDICTS.names))
    copies = pa.concat_tables(tables)
    copies = copies.filter(copies["copy_unit"].is_valid()).sort_by("copy_unit")
    units, starts = np.unique(copies["copy_unit"].to_numpy(), return_index=True)
    origins = [pa.array([], COPY)]
    for copy_unit, rows in zip(units.tolist(), np.split(copies["copy_row"].to_numpy(), starts[1:]), strict=False):
        place = run.texts(copy_unit)
        found = read_columns(place.file, place.record, ["file", "row"]).take(rows)
        source = pa.array([run.units.source_name(copy_unit)] * len(rows), pa.string())
        files, numbers = (pa.concat_arrays(found[name].chunks) for name in ("file", "row"))
        origins.append(pa.StructArray.from_arrays([source, files, numbers], fields=list(COPY)))
    places = np.full(len(verdicts.steps), -1)
    places[copies["row"].to_numpy()] = np.arange(len(copies))
    return pa.chunked_array(origins, COPY).take(pa.array(places, mask=places < 0))


def _funnel(run: Run, unit: int, verdicts: Judgement) -> dict[str, Any]:
    """Documents and characters: all, of every step the dropped ones by reason, and the kept ones."""
    place = run.texts(unit)
    characters = read_columns(place.file, place.record, ["characters"])["characters"].to_numpy()
    dropped: list[dict[str, list[int]]] = [{} for _ in range(len(run.config.steps) + 1)]
    for row in np.flatnonzero(~verdicts.kept):
        counts = dropped[int(verdicts.steps[row]) - IN_READING].setdefault(str(verdicts.reasons[row]), [0, 0])
        counts[0] += 1
        counts[1] += int(characters[row])
    return {
        "read": [len(characters), int(characters.sum())],
        "dropped": [dict(sorted(reasons.items())) for reasons in dropped],
        "kept": [int(verdicts.kept.sum()), int(characters[verdicts.kept].sum())],
    }


def _distributions(signals: pa.Table, run: Run, judged: list[np.ndarray]) -> dict[str, Any]:
    """Of every column that is given out, how often which value occurs among the documents that its step judged."""
    found = {}
    for step, numbers in with_signals(run.config):
        mask = np.logical_or.reduce([judged[number] for number in numbers])
        for name in shown_columns(step):
            found[name] = counts_by_value(signals[name].filter(pa.array(mask)))
    return found


def all_samples(records: Iterable[dict[str, Any]]) -> list[Chosen]:
    """The samples of all units."""
    return [Chosen(**sample) for record in records for sample in record["samples"]]
