"""Which checkpoint to resume from: only sealed ones count, and a sealed one must still be whole.

The Trainer writes a checkpoint file by file. A seal (sizes and SHA-256 of the files) is added last, so a
checkpoint that a kill cut short has none and is put aside.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.files import write_whole
from data_recipes.manifest import claim_folder, folder_state, fsync_tree, sha256_file, verify_files
from train.errors import TrainError

SEAL = "seal.json"
METRICS_FILE = "metrics.jsonl"
EVALUATION_FILE = "evaluation.jsonl"


def work_folder(output_dir: Path) -> Path:
    """Where a run keeps its checkpoints until the finished folder appears under its own name."""
    return output_dir.with_name(f"{output_dir.name}.work")


def work_kind(kind: str) -> str:
    """The kind of the work folder of a run whose finished folder is of `kind`."""
    return f"unfinished-{kind}"


def claim_work_folder(work: Path, made_from: dict[str, Any], *, kind: str) -> None:
    """Make `work` this run's, or check that it is: a checkpoint must not be resumed with another config or other data.

    Another tuning run's folder without a checkpoint is taken, as nothing is lost; anything else there is an error.
    """
    if folder_state(work, kind=kind) == "begun" and not any(work.glob(f"checkpoint-*/{SEAL}")):
        try:
            folder_state(work, kind=kind, made_from=made_from)
        except DataError:
            shutil.rmtree(work)
    claim_folder(work, kind=kind, made_from=made_from)


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
