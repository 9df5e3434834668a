"""Copies taken out of the miniature's corpus by the cleaning pipeline, with its evidence: `data_recipes.cleaning`."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import load_cleaning_config
from data_recipes.cleaning.pipeline.inputs import InputSource
from data_recipes.cleaning.pipeline.summary import read_summary
from data_recipes.corpus.installed import Document

CONFIG = "miniature"


def without_copies(found: Mapping[str, list[Document]], evidence: Path) -> dict[str, list[Document]]:
    """The documents of each domain that the config `miniature` keeps, in their order.

    A domain is a source, those named first of higher priority. `evidence` is left with the run's summary (the funnel)
    and the dropped documents.
    """
    inputs = evidence / "inputs"
    inputs.mkdir(parents=True)
    sources = []
    for domain, documents in found.items():
        if documents:
            path = inputs / f"{domain}.jsonl"
            path.write_text("".join(json.dumps({"text": document.text}) + "\n" for document in documents))
            sources.append(InputSource(domain, str(path)))
    kept: dict[str, list[Document]] = {domain: [] for domain in found}
    if not sources:
        return kept
    run = evidence / "run"
    clean(load_cleaning_config(CONFIG), sources, run)
    for path in sorted((run / "kept").glob("*.parquet")):
        for row in pq.read_table(path, columns=["text", "source", "row"]).to_pylist():
            kept[row["source"]].append(replace(found[row["source"]][row["row"]], text=row["text"]))
    for name in ("summary.json", "dropped"):
        (run / name).rename(evidence / name)
    shutil.rmtree(run)
    shutil.rmtree(inputs)
    return kept


def dropped_by_step(evidence: Path) -> dict[str, int]:
    """How many documents each step has dropped."""
    counts: dict[str, int] = {}
    funnel: list[dict[str, Any]] = read_summary(evidence)["funnel"] if (evidence / "summary.json").is_file() else []
    for entry in funnel:
        counts[entry["step"]] = counts.get(entry["step"], 0) + entry["documents_dropped"]
    return counts
