"""A published training state as the folder of a run that goes on at its step."""

from pathlib import Path
from typing import Any

from data_recipes.files import only_process
from data_recipes.manifest import CLAIM_NAME, claim_folder
from train.checkpoints.sharded import checkpoints_in
from train.checkpoints.training_state import import_training_state, read_training_state
from train.errors import TrainError
from train.run.inputs import RUN_KIND


def import_as_run(state: Path, folder: Path, *, progress: bool = False) -> dict[str, Any]:
    """Write `folder`, absent or empty, as a run whose only checkpoint is that state: `train pretrain` with the same
    settings and data and this `output_dir` goes on as the run that it was taken from. Returns what
    `import_training_state` returns."""
    step = read_training_state(state, content=False)["step"]
    claim_folder(folder, kind=RUN_KIND)
    busy = TrainError(f"{folder}: another process is at work there. Wait for it, or take another folder.")
    with only_process(folder / CLAIM_NAME, busy):
        if checkpoints_in(folder) or (folder / "metrics.jsonl").is_file():
            raise TrainError(f"{folder}: holds a run that has begun. Choose another folder.")
        return import_training_state(state, folder / "checkpoints" / f"step-{step:08d}", progress=progress)
