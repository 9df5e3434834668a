"""Score files as `eval run` writes them, with made-up numbers: what comparisons and tables are tested on."""

import json
from pathlib import Path
from typing import Any

from eval.scores import SCHEMA_VERSION


def own_row(task: str, measure: str, group: str, value: float, **more: Any) -> dict[str, Any]:
    better = "lower" if measure == "bits per byte" else "higher"
    row = {"task": task, "measure": measure, "group": group, "value": value, "better": better}
    return row | {"count": 100, "chance": None, "protocol": "windows of 128 tokens"} | more


def write_scores(folder: Path, model: str, rows: list[dict[str, Any]], **provenance: Any) -> Path:
    """A score file of own tasks, or of benchmarks where `provenance` describes them."""
    settings = {"suite": "quick", "start": "eos", "prompt": "question"}
    about = {
        "model": {"name": model, "parameters": 2_424_267_648},
        "data": {"fingerprint": "a" * 64},
        "settings": settings,
        "benchmarks": {},
    } | provenance
    scores = {"schema_version": SCHEMA_VERSION, "model": model, "rows": rows, "samples": [], "notes": [], "missing": []}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(scores | {"provenance": about}))
    return folder


def benchmark(published: str | None, *, chat: bool = False, **changes: Any) -> dict[str, Any]:
    """What a benchmark leaves in a score file's provenance."""
    entry = {"published": published, "chat": chat, "source": {"shots": "LLMBox", "metric": "not public, ours: both"}}
    details = {"settings": {"prompt": "question", "limit": None}, "benchmark": entry, "protocol": "5-shot"}
    return details | {"documents": "d" * 64, "prompts": "p" * 64} | changes


EIGHT = ("gsm8k", "math500", "humaneval", "mbpp", "mmlu", "arc_challenge", "hellaswag", "ceval")


def write_benchmarks(folder: Path, model: str, values: dict[str, float], **changes: Any) -> Path:
    """A run of one benchmark a published column, `<column>-task`, each with a value between 0 and 1."""
    rows = [
        own_row(f"{column}-task", "accuracy", "all", value, stderr=0.0123, chance=0.25, protocol="5-shot")
        for column, value in values.items()
    ]
    described = {f"{column}-task": benchmark(column, **changes) for column in values}
    return write_scores(folder, model, rows, benchmarks=described)
