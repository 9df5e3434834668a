"""The file that scoring writes, `scores.json`: read again, and the rows of several runs side by side."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.errors import EvalError

SCHEMA_VERSION = 2
SCORES_NAME = "scores.json"
KIND = "scores"
ROW_KEYS = ("task", "measure", "group", "better", "count", "chance", "protocol")
SEPARATOR = " / "  # of the parts of a group


def read_scores(path: Path) -> dict[str, Any]:
    """A scores.json, given by itself or by its folder."""
    path = Path(path)
    file = path / SCORES_NAME if path.is_dir() else path
    if not file.is_file():
        raise EvalError(f"{file}: no such file. `yulanmini eval run MODEL --out DIR` writes one.")
    try:
        scores = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EvalError(f"{file}: not JSON ({error}).") from error
    if not isinstance(scores, dict) or scores.get("schema_version") != SCHEMA_VERSION:
        raise EvalError(f"{file}: not a score file of version {SCHEMA_VERSION}. Score the model again.")
    return scores


def is_share(row: Mapping[str, Any]) -> bool:
    """Whether a row's value is a share of its count, as every value is that is better when higher."""
    return row["better"] == "higher"


def value_format(row: Mapping[str, Any]) -> str:
    """How a row's value is written: a share in percent."""
    return ".1%" if is_share(row) else ".3f"


def side_by_side(runs: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """The rows of several runs: an entry for each task, measure and group, with `values`, None where a run has none.

    Count, chance and protocol are those of the last run that has the row.
    """
    entries: dict[tuple[str, ...], dict[str, Any]] = {}
    for index, run in enumerate(runs):
        for row in (run or {}).get("rows", ()):
            entry = entries.setdefault((row["task"], row["measure"], row["group"]), {"values": [None] * len(runs)})
            entry |= {key: row.get(key) for key in ROW_KEYS}
            entry["values"][index] = row["value"]
    return list(entries.values())


def rows_by_measure(runs: Sequence[Mapping[str, Any] | None]) -> list[list[dict[str, Any]]]:
    """The entries of `side_by_side`, those of one task and measure in a list."""
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in side_by_side(runs):
        tables.setdefault((entry["task"], entry["measure"]), []).append(entry)
    return list(tables.values())


def finest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose group has no parts."""
    wholes = {row["group"].rpartition(SEPARATOR)[0] for row in rows}
    return [row for row in rows if row["group"] not in wholes]
