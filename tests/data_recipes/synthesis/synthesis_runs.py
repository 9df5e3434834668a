"""Runs of the synthesis for tests, of the kind `test-sums`: seeds, a good model, and what a run leaves."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from endpoint_server import MODEL, last
from sums_kind import equal, run_nothing

from data_recipes.cleaning.config import CleaningConfig, checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.synthesis.kinds.base import Checks
from data_recipes.synthesis.run import Run, Server
from data_recipes.synthesis.synthesize import prepare, synthesize

PATHS = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *filter(None, sys.path)])
NO_CLEANING = {"most_lost_of_a_source": 1.0, "steps": [{"step": "exact-duplicates"}]}


CHECKS = Checks(equal, run_nothing)


def right(body: dict[str, Any]) -> str:
    """What a good model answers: the sum, with some words of its own."""
    text = last(body).removeprefix("Work out: ")
    numbers = [int(word) for word in text.split() if word.isdigit()]
    return f"We put {' and '.join(map(str, numbers))} together, one after the other = {sum(numbers)}"


def write_seeds(path: Path, count: int, first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"text": f"{number} + {number * number}", "gold": str(number + number * number)}
        for number in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepared(seeds: Path | Sequence[str], out: Path, url: str, *, kind: str = "test-sums", **options: Any) -> Run:
    typed = [str(seeds)] if isinstance(seeds, Path) else list(seeds)
    cleaning: CleaningConfig = options.pop("cleaning", None) or checked_config(NO_CLEANING)
    limits = {name: options.pop(name) for name in ("concurrency", "timeout", "tries") if name in options}
    server = Server(url, **{"concurrency": 8, "tries": 2, **limits})
    chosen = {"model": MODEL, "checks": CHECKS, "cleaning": cleaning, **options}
    return prepare(kind, parse_inputs(typed), out, server=server, **chosen)


def made(seeds: Path | Sequence[str], out: Path, url: str, *, tasks: int = 1, **options: Any) -> dict[str, Any]:
    """A run to its end; its manifest."""
    manifest = synthesize(prepared(seeds, out, url, **options), tasks=tasks)
    assert manifest is not None
    return manifest


def rows(out: Path) -> list[dict[str, Any]]:
    paths = sorted((out / "samples").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def outputs(out: Path) -> dict[str, bytes]:
    """What a run gives out, byte by byte."""
    names = [*out.glob("samples/*"), out / "summary.json", out / "manifest.json"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in names}


def verdicts(out: Path) -> list[str]:
    """Of each seed, in order: `accepted`, or the verdict with its reason."""
    return [f"{row['verdict']}: {row['reason']}".removesuffix(": ") for row in rows(out)]


def prompts(asked: Sequence[Mapping[str, Any]]) -> list[str]:
    return [last(body) for body in asked]
