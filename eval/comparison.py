"""Scores of several runs side by side, and apart where they were not measured in the same way, with the reason.

Compared row by row: protocol, count, chance, and what was asked. A benchmark's documents and prompts are known by their
hashes (prompts through a chat template are the model's own, and may differ); own tasks by the data folder's fingerprint
and the token before a text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import EvalError
from eval.scores import ROW_KEYS, read_scores, side_by_side

HASHED = ("data", "documents", "prompts")


@dataclass(frozen=True)
class Comparison:
    """`entries`: as `scores.side_by_side`, each with `differences`, empty where the runs that have it agree."""

    names: list[str]
    runs: list[dict[str, Any]]
    entries: list[dict[str, Any]]
    notes: list[str]

    @property
    def comparable(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if not entry["differences"]]

    @property
    def apart(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["differences"]]

    def as_dict(self) -> dict[str, Any]:
        return {"runs": self.names, "rows": self.comparable, "not_comparable": self.apart, "notes": self.notes}


def compare(paths: Sequence[Path]) -> Comparison:
    """Read the runs' score files and put their rows side by side; `EvalError` for what is no score file."""
    if not paths:
        raise EvalError("nothing to compare; give folders or files of scores.")
    runs = [read_whole_scores(path) for path in paths]
    names = unique_names(paths, runs)
    methods = [{key_of(row): method(run, row) for row in run["rows"]} for run in runs]
    entries = side_by_side(runs)
    for entry in entries:
        entry["differences"] = differences([found.get(key_of(entry)) for found in methods])
    return Comparison(names, runs, entries, list(notes(names, runs)))


def read_whole_scores(path: Path) -> dict[str, Any]:
    """A score file with all that a comparison looks at; `EvalError` names what is not there."""
    run = read_scores(path)
    needed = {"protocol"} ^ {*ROW_KEYS, "value"}
    for number, row in enumerate(run.get("rows", [None])):
        if missing := needed - (row or {}).keys():
            raise EvalError(f"{path}: row {number} has no '{min(missing)}'. Score the model again.")
    provenance = run.get("provenance", {})
    for key in ("model", "data", "settings"):
        if not isinstance(provenance.get(key), dict):
            raise EvalError(
                f"{path}: no 'provenance.{key}', so nothing tells how it was measured. Score the model again."
            )
    return run


def key_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["measure"], row["group"]


def method(run: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """How a row was measured: equal methods, comparable values."""
    provenance = run["provenance"]
    chance = row["chance"]
    found = {"protocol": row.get("protocol"), "count": row["count"]}
    found["chance"] = None if chance is None else round(chance, 6)  # a mean: its last digits depend on the order
    details = provenance.get("benchmarks", {}).get(row["task"])
    if details is None:
        return found | {"data": provenance["data"].get("fingerprint"), "start": provenance["settings"].get("start")}
    found["documents"] = details["documents"]
    return found if asked_in_chat(details) else found | {"prompts": details["prompts"]}


def asked_in_chat(details: Mapping[str, Any]) -> bool:
    """Whether a benchmark was asked through the model's chat template."""
    return bool(details["benchmark"]["chat"]) or details["settings"]["prompt"] == "chat"


def differences(methods: Sequence[Mapping[str, Any] | None]) -> dict[str, list[Any]]:
    """What is not the same in all methods, with each one's value; None for a run that has no such row."""
    present = [found for found in methods if found is not None]
    keys = dict.fromkeys(key for found in present for key in found)
    return {
        key: [None if found is None else found.get(key) for found in methods]
        for key in keys
        if any(found.get(key) != present[0].get(key) for found in present)
    }


def reason(different: Mapping[str, Sequence[Any]]) -> str:
    """Differences in words: `count: 120, 60; data: 1f3a9c02, 77ab01e4`."""
    parts = []
    for key, values in different.items():
        shown = [
            "-"
            if value is None
            else str(value)[:8]
            if key in HASHED
            else f"{value:g}"
            if key == "chance"
            else str(value)
            for value in values
        ]
        parts.append(f"{key}: {', '.join(shown)}")
    return "; ".join(parts)


def notes(names: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the reader of the table should know of the runs."""
    found = []
    for name, run in zip(names, runs, strict=True):
        if missing := run.get("missing"):
            found.append(f"{name}: not finished; {', '.join(missing)} still to be run.")
    forms = [run["provenance"]["settings"].get("prompt") for run in runs]
    if len(known := set(forms) - {None}) > 1:
        listed = ", ".join(f"{name}: {form}" for name, form in zip(names, forms, strict=True) if form in known)
        found.append(f"Questions were asked in different forms ({listed}).")
    return found


def unique_names(paths: Sequence[Path], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run: its model's, else its folder's, else its path, whichever are all different first."""
    folders = [path if path.is_dir() else path.parent for path in map(Path, paths)]
    for names in ([run["model"] for run in runs], [folder.resolve().name for folder in folders]):
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
