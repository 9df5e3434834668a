"""Checkpoints: distributed (DCP), whole or absent, resumable on another number of ranks.

    checkpoints/step-00000035/   DCP files of model and optimizer, rng-<rank>.pt, trainer.json

`trainer.json` holds the step, the run's identity, the state of monitors, size and checksum of every file, and a
checksum of itself, so that a damaged checkpoint is seen before it is loaded.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import xxhash
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
)

from data_recipes.files import write_whole
from data_recipes.manifest import fsync_path
from train.config_file import located
from train.errors import TrainError
from train.launch.world import ALONE, World

TRAINER_FILE = "trainer.json"
READERS = 4  # files that one process reads at a time to check them: what a disk or a network file system likes

Files = dict[str, dict[str, Any]]


class Checkpointer:
    """Saves and loads the checkpoints of one run.

    A save copies the state to the host (pinned memory where there is a GPU), and a thread writes the copy, reads it
    back and takes the checksums; with `asynchronous` training goes on meanwhile. A thread, not a process: it ends with
    the run, so a killed run leaves nobody behind who writes where the next one does.
    """

    def __init__(self, folder: Path, world: World, *, keep_last: int, asynchronous: bool) -> None:
        self.folder = folder
        self._world = world
        self._keep_last = keep_last
        self._asynchronous = asynchronous
        self._pending: tuple[int, dict[str, Any], Future[Files]] | None = None
        self.kept_for_good: Callable[[int], bool] = lambda step: False
        # Of its own: collectives of two threads in one group would meet in another order on each rank.
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        on_gpu = world.device.type == "cuda"
        # Reused from save to save, as pinning costs more than copying.
        options = StagingOptions(
            use_pinned_memory=on_gpu, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=on_gpu
        )
        self._stager = DefaultStager(options)
        self._staged = asynchronous or on_gpu
        self._thread = ThreadPoolExecutor(1, "checkpoint", initializer=_use, initargs=(world.device,))
        # A rank of a killed run that outlives it for a moment must not find the place where this one writes.
        self._attempt = int(world.any(float(os.getpid()) if world.is_main else 0.0)[0])

    def path_of(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Steps of all finished checkpoints, ascending."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*") if path.is_dir())

    def save(self, step: int, model: Any, optimizer: torch.optim.Optimizer, trainer: dict[str, Any]) -> None:
        """Begin to save (and finish, unless asynchronous). An unfinished earlier one is finished first."""
        self.finish()
        if self._world.any(float(self._world.is_main and self.path_of(step).exists()))[0]:
            return
        partial = self._partial(step)
        if self._world.is_main:
            for left_over in self.folder.glob(".step-*"):
                shutil.rmtree(left_over, ignore_errors=True)
            partial.mkdir(parents=True)
        self._world.barrier()
        state: Any = {
            "model": get_model_state_dict(model),
            "optimizer": get_optimizer_state_dict(model, optimizer),
        }
        if self._staged:
            state = self._stager.stage(state)
        future = self._thread.submit(self._write, partial, state, _rng_state(self._world.device))
        self._pending = (step, trainer, future)
        if not self._asynchronous:
            self.finish()

    def _write(self, partial: Path, state: dict[str, Any], rng: dict[str, torch.Tensor]) -> Files:
        """In the thread: write this rank's part; size and checksum of its files."""
        rank = self._world.rank
        torch.save(rng, partial / f"rng-{rank}.pt")
        fsync_path(partial / f"rng-{rank}.pt")
        dcp.save(state, checkpoint_id=partial, process_group=self._group, no_dist=self._group is None)
        mine = [partial / f"rng-{rank}.pt", *partial.glob(f"__{rank}_*")]
        if rank == 0:
            mine.append(partial / ".metadata")
        return {path.name: content_of(path) for path in mine}

    def poll(self) -> None:
        """Finish an asynchronous save if every rank has written its part."""
        if self._pending is not None and self._world.any(float(not self._pending[2].done()))[0] == 0.0:
            self.finish()

    def finish(self) -> None:
        """Wait for an unfinished save and give it its name."""
        if self._pending is None:
            return
        (step, trainer, future), self._pending = self._pending, None
        partial, files, failure = self._partial(step), {}, ""
        try:
            files = future.result()
        except dcp.api.CheckpointException as error:
            failure = "; ".join(sorted({str(reason) for reason, _ in error.failures.values()}))[:300]
        except OSError as error:
            failure = str(error)
        parts = self._world.gather((files, failure))
        if failures := {failure for _, failure in parts if failure}:
            raise TrainError(
                f"{partial}: could not be written ({'; '.join(sorted(failures))}). Earlier checkpoints are whole; "
                "the same command resumes from the last one."
            )
        if self._world.is_main:
            written = {name: content for part, _ in parts for name, content in part.items()}
            write_trainer(partial, {"step": step, **trainer}, files=written)
            fsync_path(partial)
            partial.rename(self.path_of(step))
            fsync_path(self.folder)
            self._prune()
        self._world.barrier()

    def latest(self, *, before: int | None = None) -> tuple[int, dict[str, Any], list[str]] | None:
        """Step and trainer state of the newest whole checkpoint, and what was wrong with newer ones. Collective.

        With `before`, only checkpoints of at most that step count. Contents are read, each rank a share of the files:
        that of the same number, which it then loads (from memory, as it has just been read).
        """
        problems: list[str] = []
        for step in reversed(self._world.gather(self.steps())[0]):
            if before is not None and step > before:
                continue
            trainer, found = {}, []
            try:
                trainer = read_trainer(self.path_of(step))
                found = damaged_files(self.path_of(step), trainer, rank=self._world.rank, ranks=self._world.size)
            except TrainError as error:
                found = [str(error)]
            everywhere = [problem for part in self._world.gather(found) for problem in part]
            if not everywhere:
                return step, trainer, problems
            problems.append(everywhere[0])
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
                    self._remove(later)
        self._world.barrier()

    def close(self) -> None:
        """End the thread; what it has not finished stays unnamed."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._stager.close()

    def _partial(self, step: int) -> Path:
        return self.folder / f".step-{step:08d}.{self._attempt}.partial"

    def _prune(self) -> None:
        passing = [step for step in self.steps() if not self.kept_for_good(step)]
        for step in passing[: -self._keep_last]:
            self._remove(step)

    def _remove(self, step: int) -> None:
        """Unnamed first: a kill half-way leaves no checkpoint that looks damaged."""
        gone = self.folder / f".step-{step:08d}.removed"
        self.path_of(step).rename(gone)
        shutil.rmtree(gone)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder, or of a folder of checkpoints, in order."""
    return sorted(folder.glob("checkpoints/step-*")) or sorted(folder.glob("step-*"))


def read_trainer(folder: Path) -> dict[str, Any]:
    """`trainer.json` of a checkpoint; TrainError when it is damaged, or any file is missing or of the wrong size.

    The contents of the other files are not read: `damaged_files` and `check_contents` do that.
    """
    path = folder / TRAINER_FILE
    try:
        trainer = json.loads(path.read_text())
        checksum = trainer.pop("checksum")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        inside = checkpoints_in(folder) or checkpoints_in(folder.parent)
        hint = f" Checkpoints there: {', '.join(path.name for path in inside[-5:])}." if inside else ""
        reason = error.strerror if isinstance(error, OSError) else f"no JSON with a checksum: {error}"
        raise TrainError(f"{folder}: {TRAINER_FILE} cannot be read ({reason}).{hint}") from error
    if _checksum_of(trainer) != checksum:
        raise TrainError(f"{path}: damaged, its content differs from its checksum.")
    for name, content in trainer["files"].items():
        file = folder / name
        if not file.is_file():
            raise TrainError(f"{file}: missing.")
        if file.stat().st_size != content["bytes"]:
            raise TrainError(f"{file}: {file.stat().st_size} bytes, expected {content['bytes']}.")
    if "tokenizer" in trainer:  # written so that it holds wherever the run is moved
        trainer["tokenizer"] = str(located(Path(trainer["tokenizer"]), folder.resolve()).absolute())
    return trainer


def damaged_files(folder: Path, trainer: Mapping[str, Any], *, rank: int = 0, ranks: int = 1) -> list[str]:
    """What is wrong with the contents of the files that rank `rank` of `ranks` reads, one line each."""
    mine = [name for name in sorted(trainer["files"]) if _writer_of(name) % ranks == rank]
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda name: content_of(folder / name), mine)
        return [
            f"{folder / name}: damaged, its content differs from its checksum."
            for name, content in zip(mine, found, strict=True)
            if content != trainer["files"][name]
        ]


def check_contents(folder: Path, trainer: Mapping[str, Any], world: World = ALONE) -> None:
    """TrainError for a file whose content is not what was written. Collective: each rank reads a share."""
    mine = damaged_files(folder, trainer, rank=world.rank, ranks=world.size)
    if problems := [problem for part in world.gather(mine) for problem in part]:
        raise TrainError(problems[0])


def write_trainer(folder: Path, trainer: dict[str, Any], *, files: Files | None = None) -> None:
    """Complete a checkpoint: `trainer.json`, with size and checksum of the files that are there (`files`, if known)."""
    if files is None:
        files = {path.name: content_of(path) for path in sorted(folder.iterdir())}
    content = json.loads(json.dumps({**trainer, "files": files}))  # keys as they will be read
    write_whole(folder / TRAINER_FILE, json.dumps({"checksum": _checksum_of(content), **content}, indent=1))


def content_of(path: Path) -> dict[str, Any]:
    """Size and checksum of a file: xxh3, 128 bits, at the speed of the disk; against accidents, not against malice."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, xxhash.xxh3_128)
        return {"bytes": file.tell(), "xxh3": digest.hexdigest()}


def load_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer | None) -> None:
    """Read a checkpoint's tensors into `model` (and `optimizer`), sharded as these are now.

    Of the optimizer only what belongs to a parameter is read, by the parameter's name: moments and counters. Groups,
    rates, decay, betas and eps are the config's own, whatever those of the run were that wrote the checkpoint.
    """
    state: dict[str, Any] = {"model": get_model_state_dict(model)}
    if optimizer is not None:
        # The very tensors that the optimizer holds, which is what makes them loaded.
        state["optimizer"] = {"state": get_optimizer_state_dict(model, optimizer)["state"]}
    try:
        with one_process():
            dcp.load(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
        set_model_state_dict(model, state["model"])
    except (RuntimeError, KeyError, ValueError, dcp.api.CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise TrainError(f"{folder}: a checkpoint of another model or damaged ({reason}).") from error


@contextmanager
def one_process() -> Iterator[None]:
    """Without torch's warning that no process group is there: where there is none, one process is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _checksum_of(trainer: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(trainer, sort_keys=True).encode())


def _writer_of(name: str) -> int:
    """The rank that has written a file: the first number in `__3_0.distcp`, `rng-3.pt`; 0 for `.metadata`."""
    number = re.search(r"\d+", name)
    return int(number[0]) if number else 0


def _use(device: torch.device) -> None:
    """In the thread: the rank's own device, and a stream that does not wait for the loop's kernels."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.set_stream(torch.cuda.Stream(device))


def _rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
