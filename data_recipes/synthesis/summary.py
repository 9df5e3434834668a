"""The end of a run: what became of every seed, in `summary.json`, and the manifest.

Keys of the summary, for whoever draws or reads it: `kind` and `config`; `sources`, in each seeds by verdict; `verdicts`
in all; `reasons` (verdict, reason, seeds), the most frequent first; `answers` with their tokens as the server counts
them; `cost` where prices were given; `characters` of training text; `cleaning`, the cleaning's summary; `examples`.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError, naming_full_disk
from data_recipes.files import write_whole
from data_recipes.manifest import CLAIM_NAME, fsync_tree, write_manifest
from data_recipes.synthesis.cleaned import cleaning_summary
from data_recipes.synthesis.run import KIND, SAMPLES_FOLDER, Run
from data_recipes.synthesis.samples import EXAMPLES

SUMMARY_NAME, REPORT_NAME, LOCK_NAME = "summary.json", "report.html", ".synthesize.lock"
VERDICTS = ("accepted", "rejected", "failed")
ANSWERS = ("answers", "prompt_tokens", "completion_tokens", "uncounted")
MILLION = 1_000_000
DrawReport = Callable[[dict[str, Any]], str]


def finish(run: Run, report: DrawReport | None, rank: int, tasks: int) -> None:
    """Add up all shards, write the summary, the report that `report` makes of it, and last the manifest."""
    if run.is_finished:
        return
    shards = run.shards
    records = [run.samples_record(shard) for shard in shards]
    asked = [run.made_record(shard) for shard in shards]
    for shard, *found in zip(shards, records, asked, strict=True):
        if None in found:
            raise DataError(
                f"{run.samples(shard).file}: missing or damaged. Give the same command again: it is made again."
            )
    summary = summarise(
        run.config,
        run.units.sources,
        [record for record in records if record],
        [record for record in asked if record],
        cleaning=cleaning_summary(run),
        prices=run.prices,
    )
    hashes = {
        os.path.normpath(Path("work/samples") / name): file
        for record in records
        if record
        for name, file in record["files"].items()
    }
    write_end(
        run.out, summary, report, inputs=run.units.contents, hashes=hashes, made_from=made_from(run), config=run.config
    )


def write_end(
    out: Path,
    summary: dict[str, Any],
    report: DrawReport | None,
    *,
    inputs: dict[str, str],
    hashes: dict[str, Any],
    made_from: list[str],
    config: dict[str, Any],
) -> None:
    """Summary, report and manifest of a folder of samples."""
    write_whole(out / SUMMARY_NAME, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    if report is not None:
        write_whole(out / REPORT_NAME, report(summary))
    fsync_tree(out / SAMPLES_FOLDER)
    with naming_full_disk(out):
        write_manifest(
            out,
            kind=KIND,
            inputs=inputs,
            config=config,
            counts={"seeds": summary["seeds"], **summary["verdicts"], **summary["answers"]},
            known_hashes=hashes,
            leave_out=(CLAIM_NAME, LOCK_NAME, "work"),
            made_from=made_from,
            synthesis=config["kind"],
        )


def made_for(kind: str) -> dict[str, str]:
    """What a folder is marked with from the beginning, and its manifest has too: it stays with its kind."""
    return {"synthesis": kind}


def made_from(run: Run) -> list[str]:
    """What a finished run must equal to be this one."""
    return [run.units.fingerprint, run.result]


def summarise(
    config: dict[str, Any],
    sources: list[str],
    records: list[dict[str, Any]],
    asked: list[dict[str, Any]],
    *,
    cleaning: dict[str, Any] | None,
    prices: tuple[float, float] | None,
) -> dict[str, Any]:
    """The summary of a run from its shards' records: `records` of what was given out, `asked` of what it took."""
    reasons: Counter[tuple[str, str]] = Counter()
    by_source = {source: dict.fromkeys(VERDICTS, 0) for source in sources}
    for record in records:
        for verdict, reason, count in record["verdicts"]:
            reasons[verdict, reason] += count
            by_source[record["source"]][verdict] += count
    answers = {name: sum(record.get(name, 0) for record in asked) for name in ANSWERS}
    summary = {
        "kind": config["kind"],
        "config": config,
        "seeds": sum(record["seeds"] for record in records),
        "verdicts": {verdict: sum(found[verdict] for found in by_source.values()) for verdict in VERDICTS},
        "unchecked": sum(record["unchecked"] for record in records),
        "lost": sum(record.get("lost", 0) for record in asked),
        "answers": answers,
        "characters": sum(record["characters"] for record in records),
        "sources": [{"source": source, **found} for source, found in by_source.items()],
        "reasons": [
            {"verdict": verdict, "reason": reason, "seeds": count}
            for (verdict, reason), count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
            if verdict != "accepted"
        ],
        "cleaning": cleaning,
        "examples": _examples(records),
    }
    if prices is not None:
        summary["prices"] = {"prompt": prices[0], "answer": prices[1]}
        summary["cost"] = cost(answers, prices)
    return summary


def cost(answers: dict[str, int], prices: tuple[float, float]) -> float:
    """In the currency of the prices, which are for a million tokens of prompts and of answers."""
    return (answers["prompt_tokens"] * prices[0] + answers["completion_tokens"] * prices[1]) / MILLION


def _examples(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first few of each verdict and reason."""
    taken: Counter[tuple[str, str]] = Counter()
    found = []
    for record in records:
        for one in record["examples"]:
            key = (one["verdict"], one["reason"])
            taken[key] += 1
            if taken[key] <= EXAMPLES:
                found.append(one)
    return sorted(found, key=lambda one: (VERDICTS.index(one["verdict"]), one["reason"]))


def read_summary(out: Path) -> dict[str, Any]:
    """The summary of a finished run."""
    return json.loads((out / SUMMARY_NAME).read_text())


def recipe_source(out: Path, template: str | None) -> dict[str, Any]:
    """An entry `source:` of a recipe that reads the accepted samples, made into text by a template or as they are."""
    text = {} if template is None else {"template": template}
    return {"path": str(out / SAMPLES_FOLDER), **text, "filters": [{"field": "verdict", "equals": "accepted"}]}
