"""Which checkpoint to resume from: only sealed ones count, and a sealed one must still be whole.

The Trainer writes a checkpoint file by file. A seal (sizes and SHA-256 of the files) is added last, so a
checkpoint that a kill cut short has none and is put aside.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from data_recipes.files import write_whole
from data_recipes.manifest import fsync_tree, sha256_file, verify_files
from train.errors import TrainError

SEAL = "seal.json"
IDENTITY_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"


def work_folder(output_dir: Path) -> Path:
    """Where a run keeps its checkpoints until the finished folder appears under its own name."""
    return output_dir.with_name(f"{output_dir.name}.work")


def claim_work_folder(work: Path, identity: dict[str, Any]) -> None:
    """Make `work` this run's, or check that it is: a checkpoint must not be resumed with another config or other data.

    `identity` is nested mappings; without a checkpoint nothing is lost, and the folder is simply taken.
    """
    path = work / IDENTITY_FILE
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    if found == identity:
        return
    if any(work.glob(f"checkpoint-*/{SEAL}")):
        theirs, ours = flatten(found or {}), flatten(identity)
        changed = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
        listed = "; ".join(f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} now" for key in changed)
        raise TrainError(
            f"{work} holds the unfinished run of another config or other inputs ({listed}). "
            "Undo the change to resume it, or delete it to start afresh."
        )
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_whole(path, yaml.safe_dump(identity, sort_keys=False, allow_unicode=True))


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as complete."""
    files = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file()
    }
    fsync_tree(checkpoint)
    write_whole(checkpoint / SEAL, json.dumps(files, indent=1))


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def latest_checkpoint(work: Path) -> Path | None:
    """The newest sealed checkpoint, after removing what a kill left half-written.

    Raises TrainError when a sealed checkpoint has lost or changed a file: silently starting from an older one
    would hide a broken disk.
    """
    checkpoints = sorted(work.glob("checkpoint-*"), key=step_of)
    for checkpoint in [item for item in checkpoints if not (item / SEAL).is_file()]:
        shutil.rmtree(checkpoint)
        checkpoints.remove(checkpoint)
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    problems = verify_files(newest, manifest={"files": json.loads((newest / SEAL).read_text())})
    if problems:
        raise TrainError(
            f"{problems[0]}; the checkpoint is damaged. Delete {newest} to resume from "
            f"{checkpoints[-2] if len(checkpoints) > 1 else 'the start'}."
        )
    return newest
