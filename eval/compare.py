"""Scores of several runs side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.errors import EvalError
from eval.suites import SCHEMA_VERSION, SCORES_NAME


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


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """{"runs": names, "same_data": bool, "rows": [{"measure", "group", "better", "values"}]}; None where missing.

    Bits per byte are comparable only on the same text: `same_data` is false when the corpora differ.
    """
    if not paths:
        raise EvalError("nothing to compare; give folders or files of scores.")
    runs = [read_scores(path) for path in paths]
    rows: dict[tuple[str, str, str], list[float | None]] = {}

    def put(key: tuple[str, str, str], index: int, value: float | None) -> None:
        rows.setdefault(key, [None] * len(runs))[index] = value

    for index, run in enumerate(runs):
        for domain, measured in run.get("heldout", {}).items():
            put(("bits per byte", domain, "lower"), index, measured["bits_per_byte"])
        for level in run.get("levels", []):
            put(("exact match", f"level {level['level']}", "higher"), index, level["exact_match"])
        for problem in run.get("problems", []):
            group = f"{problem['kind']} ({problem['language']})"
            put(("exact match", group, "higher"), index, problem["exact_match"])
    return {
        "runs": unique_names(paths, runs),
        "same_data": len({run["provenance"]["data"]["fingerprint"] for run in runs}) == 1,
        "rows": [
            {"measure": measure, "group": group, "better": better, "values": values}
            for (measure, group, better), values in rows.items()
        ],
    }


def unique_names(paths: Sequence[Path], runs: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each run: its model's, else its folder's, else its path, whichever first tells all apart."""
    folders = [path if path.is_dir() else path.parent for path in map(Path, paths)]
    for names in ([run["model"] for run in runs], [folder.resolve().name for folder in folders]):
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
