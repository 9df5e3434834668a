"""Score a model on the tasks of a suite, and write what came out, with what it was made from, as scores.json."""

import json
from collections.abc import Mapping, Sized
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from data_recipes.errors import nearest
from data_recipes.files import write_whole
from data_recipes.manifest import claim_folder, folder_state
from data_recipes.recipes.yaml_schema import validate
from data_recipes.registry import named_subclasses
from eval.corpus_folder import data_fingerprint
from eval.errors import EvalError
from eval.model_loading import load_model
from eval.scores import KIND, SCHEMA_VERSION, SCORES_NAME
from eval.tasks.base import Task

PACKAGES = ("yulanmini", "torch", "transformers", "tokenizers")
# Every task is also a suite of its own.
SUITES = {"miniature": ("heldout", "problems", "continuations")}


def make_tasks(suite: str, settings: Mapping[str, Any]) -> list[Task]:
    """The tasks of a suite; each takes the settings that it knows. `EvalError` for one that none of them knows."""
    kinds = named_subclasses(Task)
    suites = {name: (name,) for name in kinds} | SUITES
    if suite not in suites:
        raise EvalError(f"no suite '{suite}'.{nearest(suite, suites)}")
    fields = {name: set(kinds[name].model_fields) for name in suites[suite]}
    for key in settings:
        if not any(key in known for known in fields.values()):
            raise EvalError(f"no task of '{suite}' has a setting '{key}'.{nearest(key, set().union(*fields.values()))}")
    return [
        validate(kinds[name], {key: value for key, value in settings.items() if key in known}, where=f"task {name}")
        for name, known in fields.items()
    ]


def prepare(data: Path, suite: str, settings: Mapping[str, Any] | None, out: Path | None) -> list[tuple[Task, Sized]]:
    """The tasks of a suite with their inputs. Raises what `run_suite` raises before it loads a model."""
    tasks = make_tasks(suite, settings or {})
    if out is not None:
        folder_state(Path(out), kind=KIND)
    return [(task, task.read(Path(data))) for task in tasks]


def run_suite(
    model: str | Path,
    *,
    data: Path,
    suite: str = "miniature",
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model on a data folder; returns the scores and writes them to `out`/scores.json if given.

    Keys: "rows" of all tasks, "samples", "notes", "provenance". Greedy and without chance: the same files give the
    same scores.

    Before a model is loaded: `EvalError` or `DataError` for settings or data that cannot be scored, `DataError` for an
    `out` that holds anything but scores of the same model, data and settings.
    """
    tasks = prepare(data, suite, settings, out)
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    resolved: dict[str, Any] = {"suite": suite}
    for task, _ in tasks:
        resolved |= task.model_dump()
    made_from = {
        "model": loaded.provenance["fingerprint"] or [loaded.provenance["name"], loaded.provenance["revision"]],
        "data": data_fingerprint(Path(data)),
        "settings": resolved,
    }
    if out is not None:
        folder_state(Path(out), kind=KIND, made_from=made_from)
    scores: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "model": loaded.provenance["name"]}
    scores |= {"rows": [], "samples": [], "notes": []}
    seconds = {}
    for task, inputs in tasks:
        began = perf_counter()
        result = task.score(loaded, inputs, progress=progress)
        scores["rows"] += [{"task": task.name, **row} for row in result.rows]
        scores["samples"] += result.samples
        scores["notes"] += result.notes
        seconds[task.name] = round(perf_counter() - began, 2)
    scores["provenance"] = {
        "model": loaded.provenance,
        "data": {"fingerprint": made_from["data"]},
        "settings": resolved,
        "decoding": "greedy",
        "packages": {name: version(name) for name in PACKAGES},
        "seconds": seconds,
    }
    if out is not None:
        claim_folder(Path(out), kind=KIND, made_from=made_from)
        write_whole(Path(out) / SCORES_NAME, json.dumps(scores, indent=2, ensure_ascii=False) + "\n")
    return scores
