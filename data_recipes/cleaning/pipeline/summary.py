"""The end of a run: what became of every document, in `summary.json`, and the manifest.

Its keys, for whoever draws or reads it: `documents`, `characters` and `kept_*` in all; `sources` and `funnel` (an entry
a source and step: documents and characters in, dropped by reason, kept); `columns` (a distribution each); `details`
(what steps say of themselves: recall of a classifier, items found of an evaluation set); `samples`.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_recipes.cleaning.pipeline.distributions import add_up, distribution
from data_recipes.cleaning.pipeline.documents import READING
from data_recipes.cleaning.pipeline.join import JOINED_FOLDER, parts_of, read_joined_record
from data_recipes.cleaning.pipeline.run import KIND, Run, shown_columns, with_signals
from data_recipes.cleaning.pipeline.samples import shown
from data_recipes.cleaning.pipeline.verdicts import signals_of
from data_recipes.cleaning.pipeline.write import DROPPED_FOLDER, KEPT_FOLDER, all_samples
from data_recipes.cleaning.steps.base import Step
from data_recipes.errors import DataError, naming_full_disk
from data_recipes.files import write_whole
from data_recipes.manifest import CLAIM_NAME, fsync_tree, write_manifest

SUMMARY_NAME, REPORT_NAME = "summary.json", "report.html"
LOCK_NAME = ".clean.lock"
COUNTS = ("documents", "characters", "kept_documents", "kept_characters", "joined_documents")
Counts = list[int]  # documents, characters
DrawReport = Callable[[dict[str, Any]], str]


def finish(run: Run, report: DrawReport | None, rank: int, tasks: int) -> None:
    """Add up all units, write the summary, the report that `report` makes of it, and last the manifest."""
    if run.is_finished:
        return
    records = []
    for unit in range(len(run.units)):
        record = run.written_record(unit)
        if record is None:
            raise DataError(
                f"{run.out / KEPT_FOLDER}: unit {unit} is missing or damaged. Give the same command again: it is made "
                "again."
            )
        records.append(record)
    _remove_strays(run)
    joined = _joined_records(run)
    summary = summarise(run, records)
    if joined:
        summary["joined_documents"] = sum(record["documents"] for record in joined)
    write_whole(run.out / SUMMARY_NAME, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    if report is not None:
        write_whole(run.out / REPORT_NAME, report(summary))
    hashes = {
        os.path.normpath(Path(run.work.name, "written", name)): file
        for record in (*records, *joined)
        for name, file in record["files"].items()
    }
    for name in (KEPT_FOLDER, DROPPED_FOLDER, *([JOINED_FOLDER] if joined else [])):
        fsync_tree(run.out / name)
    with naming_full_disk(run.out):
        write_manifest(
            run.out,
            kind=KIND,
            inputs=run.units.contents,
            config=run.config.resolved,
            counts={key: summary[key] for key in COUNTS if key in summary},
            known_hashes=hashes,
            leave_out=(CLAIM_NAME, LOCK_NAME, run.work.name),
            made_from=made_from(run),
        )


def made_from(run: Run) -> str:
    """What a finished run must equal to be this one."""
    return run.made_from(run.config.result)


def _joined_records(run: Run) -> list[dict[str, Any]]:
    """The records of the documents made of repositories; a folder of such of an earlier config goes."""
    if run.config.settings.join is None:
        shutil.rmtree(run.out / JOINED_FOLDER, ignore_errors=True)
        return []
    records = [read_joined_record(run, part) for part in range(parts_of(run))]
    for part, record in enumerate(records):
        if record is None:
            raise DataError(
                f"{run.out / JOINED_FOLDER}: part {part} is missing or damaged. Give the same command again: it is "
                "made again."
            )
    return [record for record in records if record is not None]


def _remove_strays(run: Run) -> None:
    """Files of units that an earlier version of the code has cut otherwise."""
    for name in (KEPT_FOLDER, DROPPED_FOLDER):
        for path in (run.out / name).glob("*.parquet"):
            if not path.stem.isdigit() or int(path.stem) >= len(run.units):
                path.unlink()


def summarise(run: Run, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary of a run, from the records of all its units."""
    samples = shown(all_samples(records), run.config.steps)
    labels = [READING, *run.config.labels()]
    funnel = []
    for source in run.units.sources:
        of_source = [record["funnel"] for record in records if record["source"] == source]
        funnel += _funnel_of(source, of_source, labels)
    total = [[record["funnel"][key] for record in records] for key in ("read", "kept")]
    (documents, characters), (kept_documents, kept_characters) = (_sum(counts) for counts in total)
    _check_adds_up(funnel, documents, kept_documents)
    return {
        "documents": documents,
        "characters": characters,
        "kept_documents": kept_documents,
        "kept_characters": kept_characters,
        "sources": run.units.sources,
        "steps": labels,
        "funnel": funnel,
        "columns": _columns(run, records),
        "details": _details(run),
        "samples": {label: samples[number] for number, label in enumerate(labels, start=-1)},
    }


def _funnel_of(source: str, funnels: list[dict[str, Any]], labels: list[str]) -> list[dict[str, Any]]:
    """Each step's documents and characters of one source: those that reach it, those that it drops, the others."""
    documents, characters = _sum([funnel["read"] for funnel in funnels])
    rows = []
    for place, label in enumerate(labels):
        dropped: dict[str, Counts] = {}
        for funnel in funnels:
            for reason, counts in funnel["dropped"][place].items():
                dropped[reason] = _sum([dropped.get(reason, [0, 0]), counts])
        lost = _sum(list(dropped.values()))
        rows.append(
            {
                "source": source,
                "step": label,
                "documents_in": documents,
                "characters_in": characters,
                "documents_dropped": lost[0],
                "characters_dropped": lost[1],
                "documents_kept": documents - lost[0],
                "characters_kept": characters - lost[1],
                "reasons": {
                    reason: {"documents": counts[0], "characters": counts[1]}
                    for reason, counts in sorted(dropped.items(), key=lambda pair: (-pair[1][0], pair[0]))
                },
            }
        )
        documents, characters = documents - lost[0], characters - lost[1]
    return rows


def _sum(counts: list[Counts]) -> Counts:
    return [sum(one[0] for one in counts), sum(one[1] for one in counts)]


def _check_adds_up(funnel: list[dict[str, Any]], documents: int, kept: int) -> None:
    dropped = sum(row["documents_dropped"] for row in funnel)
    if documents != kept + dropped:
        raise RuntimeError(f"{documents} documents were read, but {kept} are kept and {dropped} dropped.")


def _columns(run: Run, records: list[dict[str, Any]]) -> dict[str, Any]:
    """A distribution of every column that is given out, with the step that it is of and that step's thresholds."""
    found: dict[str, Any] = {}
    labels = run.config.labels()
    for step, numbers in with_signals(run.config):
        limits: dict[str, set[float]] = {}
        for number in numbers:
            other = run.config.steps[number]
            for name, values in other.limits().items() if isinstance(other, Step) else ():
                limits.setdefault(name, set()).update(values)
        for name in shown_columns(step):
            counts = add_up([record["distributions"].get(name) for record in records])
            drawn = distribution(counts, sorted(limits.get(name, ())))
            if drawn is not None:
                found[name] = {"step": labels[numbers[0]], **drawn}
    return found


def _details(run: Run) -> dict[str, Any]:
    """What steps say of themselves, by label."""
    found = {}
    for label, step in zip(run.config.labels(), run.config.steps, strict=True):
        # A costly step may have columns that an earlier run with other thresholds asked for.
        of_all = [step] if isinstance(step, Step) and not step.costly else []
        details = step.details(signals_of(run, one, unit) for one in of_all for unit in range(len(run.units)))
        if details:
            found[label] = details
    return found


def read_summary(out: Path) -> dict[str, Any]:
    """The summary of a finished run."""
    return json.loads((out / SUMMARY_NAME).read_text())


def reasons_of(summary: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Documents dropped over all sources, by step and reason."""
    total: Counter[tuple[str, str]] = Counter()
    for row in summary["funnel"]:
        for reason, counts in row["reasons"].items():
            total[row["step"], reason] += counts["documents"]
    return total
