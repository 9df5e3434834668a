"""Checkpoints: distributed (DCP), whole or absent, resumable on another number of ranks.

    checkpoints/step-00000035/   DCP files of model and optimizer, rng-<rank>.pt, trainer.json

`trainer.json` holds the step, the run's identity, the state of monitors, and the size of every file, so that a damaged
checkpoint is seen before it is loaded.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from data_recipes.manifest import fsync_tree
from train.config_file import located
from train.errors import TrainError
from train.launch.world import World

TRAINER_FILE = "trainer.json"


class Checkpointer:
    """Saves and loads the checkpoints of one run."""

    def __init__(self, folder: Path, world: World, *, keep_last: int, asynchronous: bool) -> None:
        self.folder = folder
        self._world = world
        self._keep_last = keep_last
        self._asynchronous = asynchronous
        self._pending: tuple[int, dict[str, Any], Future[Any] | None] | None = None
        self.kept_for_good: Callable[[int], bool] = lambda step: False

    def path_of(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Steps of all finished checkpoints, ascending."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*") if path.is_dir())

    def save(self, step: int, model: Any, optimizer: torch.optim.Optimizer, trainer: dict[str, Any]) -> None:
        """Begin to save (and finish, unless asynchronous). An unfinished earlier one is finished first."""
        self.finish()
        if self.path_of(step).exists():
            return
        partial = self._partial(step)
        if self._world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._world.barrier()
        torch.save(_rng_state(self._world.device), partial / f"rng-{self._world.rank}.pt")
        state = {
            "model": get_model_state_dict(model),
            "optimizer": get_optimizer_state_dict(model, optimizer),
        }
        if self._asynchronous and dist.is_initialized():
            future: Any = dcp.async_save(state, checkpoint_id=partial)
            self._pending = (step, trainer, getattr(future, "upload_completion", future))
            return
        with _explained(partial), one_process():
            dcp.save(state, checkpoint_id=partial, no_dist=not dist.is_initialized())
        self._pending = (step, trainer, None)
        self.finish()

    def poll(self) -> None:
        """Finish an asynchronous save if every rank has written its part."""
        if self._pending is not None:
            future = self._pending[2]
            unfinished = 0.0 if future is None or future.done() else 1.0
            if self._world.any(unfinished)[0] == 0.0:
                self.finish()

    def finish(self) -> None:
        """Wait for an unfinished save and give it its name."""
        if self._pending is None:
            return
        (step, trainer, future), self._pending = self._pending, None
        if future is not None:
            with _explained(self._partial(step)):
                future.result()
        self._world.barrier()
        if self._world.is_main:
            partial = self._partial(step)
            write_trainer(partial, {"step": step, **trainer})
            fsync_tree(partial)
            partial.rename(self.path_of(step))
            self._prune()
        self._world.barrier()

    def latest(self, *, before: int | None = None) -> tuple[int, dict[str, Any], list[str]] | None:
        """Step and trainer state of the newest whole checkpoint, and what was wrong with newer ones.

        With `before`, only checkpoints of at most that step count.
        """
        problems: list[str] = []
        for step in reversed(self.steps()):
            if before is not None and step > before:
                continue
            try:
                return step, read_trainer(self.path_of(step)), problems
            except TrainError as error:
                problems.append(str(error))
        if problems:
            raise TrainError(f"no whole checkpoint in {self.folder}: {'; '.join(problems)}")
        return None

    def load(self, step: int, model: Any, optimizer: torch.optim.Optimizer | None) -> None:
        """Load weights, optimizer and random state saved at `step`."""
        load_state(self.path_of(step), model, optimizer)
        rng = self.path_of(step) / f"rng-{self._world.rank}.pt"
        if rng.exists():  # more ranks than before: the new ones keep their seed's state
            _set_rng_state(torch.load(rng, weights_only=True), self._world.device)

    def remove_after(self, step: int) -> None:
        """Delete checkpoints of later steps (after a roll-back they are of another run)."""
        self.finish()
        if self._world.is_main:
            for later in self.steps():
                if later > step:
                    shutil.rmtree(self.path_of(later))
        self._world.barrier()

    def _partial(self, step: int) -> Path:
        return self.folder / f".step-{step:08d}.partial"

    def _prune(self) -> None:
        passing = [step for step in self.steps() if not self.kept_for_good(step)]
        for step in passing[: -self._keep_last]:
            shutil.rmtree(self.path_of(step))


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder, or of a folder of checkpoints, in order."""
    return sorted(folder.glob("checkpoints/step-*")) or sorted(folder.glob("step-*"))


def read_trainer(folder: Path) -> dict[str, Any]:
    """`trainer.json` of a checkpoint; TrainError when it or any file is missing or of the wrong size."""
    try:
        trainer = json.loads((folder / TRAINER_FILE).read_text())
    except (OSError, ValueError) as error:
        inside = checkpoints_in(folder) or checkpoints_in(folder.parent)
        hint = f" Checkpoints there: {', '.join(path.name for path in inside[-5:])}." if inside else ""
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainError(f"{folder}: {TRAINER_FILE} cannot be read ({reason}).{hint}") from error
    for name, size in trainer["files"].items():
        path = folder / name
        if not path.is_file():
            raise TrainError(f"{path}: missing.")
        if path.stat().st_size != size:
            raise TrainError(f"{path}: {path.stat().st_size} bytes, expected {size}.")
    if "tokenizer" in trainer:  # written so that it holds wherever the run is moved
        trainer["tokenizer"] = str(located(Path(trainer["tokenizer"]), folder.resolve()).absolute())
    return trainer


def write_trainer(folder: Path, trainer: dict[str, Any]) -> None:
    """Complete a checkpoint: `trainer.json`, with the sizes of the files that are there."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / TRAINER_FILE).write_text(json.dumps({**trainer, "files": sizes}, indent=1))


def load_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer | None) -> None:
    """Read a checkpoint's tensors into `model` (and `optimizer`), sharded as these are now.

    Rates, decay and all else that a config sets stay the optimizer's own: with `init` they need not be those of the run
    that wrote the checkpoint, and torch would take the checkpoint's without a word.
    """
    state: dict[str, Any] = {"model": get_model_state_dict(model)}
    settings: list[dict[str, Any]] = []
    if optimizer is not None:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer)
        settings = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
    try:
        with one_process():
            dcp.load(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
        set_model_state_dict(model, state["model"])
        if optimizer is not None:
            set_optimizer_state_dict(model, optimizer, state["optimizer"])
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)
    except (RuntimeError, KeyError, ValueError, dcp.api.CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise TrainError(f"{folder}: a checkpoint of another model or damaged ({reason}).") from error


@contextmanager
def one_process() -> Iterator[None]:
    """Without torch's warning that no process group is there: where there is none, one process is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """A write that failed (disk full, say) as a TrainError; earlier checkpoints are as they were."""
    try:
        yield
    except dcp.api.CheckpointException as error:
        reasons = {str(failure[0]) for failure in error.failures.values()}
        raise TrainError(
            f"{folder}: could not be written ({'; '.join(sorted(reasons))[:300]}). Earlier checkpoints are whole; "
            "the same command resumes from the last one."
        ) from error


def _rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
