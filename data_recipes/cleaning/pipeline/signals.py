"""The stages that read texts: texts as they will be given out, and the columns that each step adds.

Every unit is read once; the columns of all cheap steps are computed in that pass, batch by batch. What is there
already is not computed again: a changed setting of one step computes the columns of that step, from the kept texts.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_recipes.cleaning.pipeline.documents import batch_of, read_batches, texts_schema
from data_recipes.cleaning.pipeline.run import Run, is_costly, with_signals
from data_recipes.cleaning.pipeline.unit_files import open_parquet, read_columns, write_record, writing_parquet
from data_recipes.cleaning.pipeline.verdicts import judges
from data_recipes.cleaning.steps.base import Batch, CorpusStep, Step

COMPUTED = "computed"
"""A column beside those of a costly step: whether they were computed of a document."""


def read_and_measure(run: Run, rank: int, tasks: int) -> None:
    """Texts and the columns of all cheap steps, of a task's share of the units."""
    if run.is_finished:
        return
    cheap = [step for step, _ in with_signals(run.config) if not is_costly(step)]
    for unit in run.share(rank, tasks):
        missing = [step for step in cheap if run.signals_record(step, unit) is None]
        texts_there = run.texts_record(unit) is not None
        if missing or not texts_there:
            _measure_unit(run, unit, missing, texts_there)


def _measure_unit(run: Run, unit: int, steps: Sequence[Step | CorpusStep], texts_there: bool) -> None:
    source = run.units.source_name(unit)
    with ExitStack() as stack:
        sinks = [stack.enter_context(writing_parquet(run.signals(step, unit).file, step.schema())) for step in steps]
        if texts_there:
            tables = kept_tables(run, unit)
        else:
            schema = texts_schema(run.config.reads)
            texts_sink, texts_file = stack.enter_context(writing_parquet(run.texts(unit).file, schema))
            tables = read_batches(run.units.parts(unit), source, run.config)
        for table in tables:
            if not texts_there:
                texts_sink.write(table)
            alive = np.flatnonzero(table["reason"].is_null().to_numpy())
            batch = batch_of(table.take(alive), source)
            for step, (sink, _) in zip(steps, sinks, strict=True):
                sink.write(_spread(_signals_of(step, batch), alive, len(table)))
    if not texts_there:
        write_record(
            run.texts(unit).record,
            made_from=run.made_from(run.config.reading),
            files={run.texts(unit).file.name: texts_file.record},
            documents=texts_sink.rows,
        )
    for step, (sink, file) in zip(steps, sinks, strict=True):
        _write_signals_record(run, step, unit, file.record, sink.rows)


def _write_signals_record(run: Run, step: Step | CorpusStep, unit: int, record: dict[str, Any], rows: int) -> None:
    place = run.signals(step, unit)
    made_from = run.signals_made_from(step)
    write_record(place.record, made_from=made_from, files={place.file.name: record}, documents=rows)


def kept_tables(run: Run, unit: int) -> Iterator[pa.Table]:
    """The texts of a unit as they were read, in the same batches."""
    place = run.texts(unit)
    with open_parquet(place.file, place.record) as parquet:
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, use_threads=False)


def _signals_of(step: Step | CorpusStep, batch: Batch) -> pa.Table:
    """What a step says of a batch, as its schema has it."""
    schema = step.schema()
    if len(batch) == 0:
        return schema.empty_table()
    found = step.signals(batch)
    if found.keys() != set(schema.names):
        raise ValueError(f"step '{step.settings.step}': gave the columns {sorted(found)}, expected {schema.names}.")
    arrays = []
    for field in schema:
        values = found[field.name]
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, field.type)
        array = array if array.type == field.type else array.cast(field.type)
        if len(array) != len(batch):
            raise ValueError(
                f"step '{step.settings.step}': {len(array)} values of '{field.name}' for {len(batch)} documents."
            )
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def _spread(signals: pa.Table, places: np.ndarray, rows: int) -> pa.Table:
    """The same rows at their places among `rows`, null at the others."""
    if len(places) == rows:
        return signals
    sources = np.full(rows, -1)
    sources[places] = np.arange(len(places))
    return signals.take(pa.array(sources, mask=sources < 0))


def measure_costly(run: Run, number: int, rank: int, tasks: int) -> None:
    """The columns of a costly step, of the documents that the steps before have kept and that have none yet."""
    if run.is_finished:
        return
    step = run.config.steps[number]
    assert isinstance(step, Step)
    for unit in run.share(rank, tasks):
        wanted = judges(run, unit, number)
        earlier = _computed(run, step, unit)
        missing = wanted if earlier is None else wanted & ~earlier[COMPUTED].to_numpy()
        if earlier is None or missing.any():
            _measure_some(run, step, unit, missing, earlier)


def _computed(run: Run, step: Step, unit: int) -> pa.Table | None:
    place = run.signals(step, unit)
    return read_columns(place.file, place.record) if run.signals_record(step, unit) is not None else None


def _measure_some(run: Run, step: Step, unit: int, missing: np.ndarray, earlier: pa.Table | None) -> None:
    """Compute the columns of some rows, and write them with those of earlier runs."""
    source = run.units.source_name(unit)
    found = []
    first = 0
    place = run.texts(unit)
    with open_parquet(place.file, place.record) as parquet, step.keeping(run.answers(step, unit)):
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            wanted = np.flatnonzero(missing[first : first + rows])
            first += rows
            if len(wanted):
                batch = batch_of(parquet.read_row_group(group, use_threads=False).take(wanted), source)
                found.append(_signals_of(step, batch))
    new = pa.concat_tables([step.schema().empty_table(), *found])
    table = _spread(new, np.flatnonzero(missing), len(missing))
    computed = missing
    if earlier is not None:
        before = earlier[COMPUTED].to_numpy()
        mask = pa.array(missing)
        columns = [pc.if_else(mask, table[name], earlier[name]) for name in table.column_names]
        table = pa.table(columns, schema=table.schema)
        computed = missing | before
    table = table.append_column(COMPUTED, pa.array(computed))
    target = run.signals(step, unit)
    target.record.unlink(missing_ok=True)  # it is of the file that this one replaces
    with writing_parquet(target.file, table.schema) as (sink, file):
        sink.write(table)
    _write_signals_record(run, step, unit, file.record, len(table))
