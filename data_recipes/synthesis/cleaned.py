"""The cleaning of accepted samples by a cleaning config, and what it says of each of them.

It is a run of the cleaning pipeline of its own, in `work/cleaning`, over the texts of all shards: so copies are found
wherever they are, and scores come from the same steps as for any other text.
"""

import json
import os
import shutil
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_recipes.cleaning.clean import stages_of
from data_recipes.cleaning.config import CleaningConfig
from data_recipes.cleaning.pipeline.run import Run as CleaningRun
from data_recipes.cleaning.pipeline.run import shown_columns, with_signals
from data_recipes.cleaning.pipeline.summary import SUMMARY_NAME
from data_recipes.cleaning.pipeline.unit_files import read_columns
from data_recipes.cleaning.pipeline.write import DROPPED_FOLDER, KEPT_FOLDER
from data_recipes.cleaning.steps.base import Rewrite
from data_recipes.errors import DataError
from data_recipes.executors.stage import Stage
from data_recipes.files import matches_record, write_whole
from data_recipes.manifest import fingerprint_of
from data_recipes.synthesis.run import Run
from data_recipes.synthesis.seeds import Shard

OLD = ".cleaning.old"
TEXTS_NAME = "cleaned_texts.json"


def check_cleaning(config: CleaningConfig, own_columns: Sequence[str]) -> None:
    """`DataError` where a config does what cannot be done to samples."""
    for step in config.steps:
        if isinstance(step, Rewrite):
            raise DataError(
                f"--clean: step '{step.settings.step}' changes texts, but samples are kept in parts. Leave it out; "
                "`yulanmini data clean` changes the texts of finished samples."
            )
    if config.settings.join is not None:
        raise DataError("--clean: `join` is for the files of repositories, but samples are of none. Leave it out.")
    if config.settings.text != "text":
        raise DataError(f"--clean: text: {config.settings.text}: samples have one text each. Leave the key out.")
    for name in score_schema(config).names:
        if name in own_columns:
            raise DataError(f"--clean: the column '{name}' is a column of the samples already. Call it otherwise.")


def score_schema(config: CleaningConfig) -> pa.Schema:
    """The columns that the steps add to the samples: scores, and what else they measure."""
    schemas = [(step.schema(), set(shown_columns(step))) for step, _ in with_signals(config)]
    return pa.schema([field for schema, shown in schemas for field in schema if field.name in shown])


def cleaning_stages(run: Run) -> list[Stage]:
    """The stages of the cleaning, which follow from its config alone."""
    stages = [Stage("accepted texts", partial(_begin, run), alone=True)]
    for stage in stages_of(run.cleaned):
        done = None if stage.done is None else partial(_done, run, stage)
        stages.append(Stage(f"cleaning: {stage.name}", partial(_clean, run, stage), alone=stage.alone, done=done))
    return stages


def _begin(run: Run, rank: int, tasks: int) -> None:
    """Take away what was found of other texts: the cleaning refuses to go on with them."""
    if run.is_finished:
        return
    texts = []
    for shard in run.shards:
        record, place = run.made_record(shard), run.made(shard)
        # The cleaning takes whatever text it finds, so that is compared here with what was written.
        if record is None or not _is_whole(run.texts(shard), place.record.parent, record["files"]):
            place.record.unlink(missing_ok=True)
            raise DataError(f"{place.file}: missing or damaged. Give the same command again: it is made again.")
        texts.append(record["files"])
    fingerprint = fingerprint_of(texts)
    seen = run.work / TEXTS_NAME
    if not seen.is_file() or seen.read_text() != fingerprint:
        shutil.rmtree(run.work / OLD, ignore_errors=True)
        if run.cleaned.out.exists():
            run.cleaned.out.rename(run.work / OLD)
            shutil.rmtree(run.work / OLD, ignore_errors=True)
        write_whole(seen, fingerprint)
    if _has_texts(run):
        run.cleaned.out.mkdir(exist_ok=True)


def _is_whole(texts: Path, folder: Path, files: dict[str, Any]) -> bool:
    record = files.get(os.path.relpath(texts, folder))
    return record is None or matches_record(texts, record)


def _has_texts(run: Run) -> bool:
    return next((run.work / "texts").glob("[!.]*.parquet"), None) is not None


def _clean(run: Run, stage: Stage, rank: int, tasks: int) -> None:
    if not run.is_finished and _has_texts(run):
        stage.run(rank, tasks)


def _done(run: Run, stage: Stage) -> tuple[int, int]:
    assert stage.done is not None
    return stage.done() if not run.is_finished and (run.cleaned.work / "units.json").is_file() else (0, 0)


def cleaning_summary(run: Run) -> dict[str, Any] | None:
    """The summary of the cleaning; None where no sample was accepted."""
    return json.loads((run.cleaned.out / SUMMARY_NAME).read_text()) if _has_texts(run) else None


def outcome(run: Run, shard: Shard) -> pa.Table:
    """What became of the accepted texts of a shard, in their order: `reason`, null where it stays, and the scores."""
    cleaned = run.cleaned
    schema = pa.schema([("row", pa.int64()), ("reason", pa.string()), *score_schema(run.cleaning)])
    name = run.texts(shard).name
    found = [schema.empty_table()]
    for unit in _units_of_files(cleaned, cleaned.units.fingerprint).get(name, ()):
        for folder in (KEPT_FOLDER, DROPPED_FOLDER):
            file = cleaned.out / folder / f"{unit:05d}.parquet"
            columns = [one for one in ("file", *schema.names) if folder == DROPPED_FOLDER or one != "reason"]
            table = read_columns(file, cleaned.written(unit), columns)
            table = table.filter(pc.equal(table["file"], name)).drop_columns("file")
            if folder == KEPT_FOLDER:
                table = table.append_column("reason", pa.nulls(len(table), pa.string()))
            found.append(table.select(schema.names).cast(schema))
    return pa.concat_tables(found).sort_by("row").drop_columns("row")


@lru_cache(maxsize=2)
def _units_of_files(cleaned: CleaningRun, fingerprint: str) -> dict[str, list[int]]:
    """The units of the cleaning that each file's documents are in."""
    found: dict[str, list[int]] = {}
    for unit in range(len(cleaned.units)):
        for file, _ in cleaned.units.parts(unit):
            found.setdefault(file.name, []).append(unit)
    return found
