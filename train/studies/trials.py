"""A trial: one short training through train/pretrain.py with some keys of a base config changed, kept in a folder.

A study is a set of trials. A trial that is done is not run again, so a study that was stopped resumes where it was.
What a trial is made from stands in its `trial.yaml`: settings, fingerprints of the rows and of the tokenizer, and what
the study adds. Where any of it has changed, the trial is run anew.
"""

import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from data_recipes.errors import nearest
from data_recipes.files import one_at_a_time, sha256_once, write_whole
from data_recipes.manifest import read_manifest
from data_recipes.recipes.phases import phase_folder
from data_recipes.recipes.yaml_schema import validate
from data_recipes.rows.reader import PackedRows
from train import pretrain
from train.config import PretrainConfig, phase_names
from train.config_file import changed_settings, resolved, settings_text
from train.errors import TrainError
from train.model_setup.build import build_model
from train.model_setup.parameter_groups import parameter_groups
from train.run.log import RunLog

# The columns of Table 3; YuLan-Mini's without alphas (Figure 6, "+ depth muP"); and with the two factors that its
# coordinate check asks for: under WeSaR an update of W~ acts through alpha ~ 1/sqrt(m_width), so 1/sqrt(m_width) is
# left for the rate; and a tied head whose rate does not fall with the width needs 1/m_width on the logits.
PARAMETRIZATIONS: Mapping[str, dict[str, Any]] = {
    "standard": {"name": "standard"},
    "minicpm": {"name": "minicpm"},
    "cerebras-gpt": {"name": "cerebras-gpt"},
    "depth-mup": {"name": "yulanmini", "overrides": {"wesar": False}},
    "yulanmini": {"name": "yulanmini"},
    "yulanmini-corrected": {
        "name": "yulanmini",
        "overrides": {"matrix_lr": "1/sqrt(m_width)", "logits_scale": "1/m_width"},
    },
}


def check_stages(*folders: Path) -> None:
    """TrainError where one of a run's folders is missing."""
    for folder in folders:
        if not (folder / "manifest.json").is_file():
            raise TrainError(
                f"{folder.parent}: no {folder.name}. Expected a folder made by `yulanmini reproduce`; `yulanmini "
                f"reproduce --scale tiny --out {folder.parent}` makes it (the first three stages are enough)."
            )


@dataclass(frozen=True)
class Inputs:
    """What every trial of a study trains on."""

    tokenizer: Path
    data: Path

    def check(self) -> None:
        """TrainError where one of them is missing."""
        check_stages(self.tokenizer, self.data)
        self.first_phase()

    def first_phase(self) -> PackedRows:
        """The rows of phase 1."""
        return PackedRows(self.data / phase_folder("1"))


@dataclass(frozen=True)
class Trial:
    """What came of a training: the lines of its metrics.jsonl, whether it came to its last step, and what `Job.after`
    made of it."""

    records: list[dict[str, Any]]
    finished: bool
    found: Any = None

    @property
    def losses(self) -> list[float | None]:
        """Training loss of each step; None where it was not finite."""
        return [record.get("loss") for record in self.records]

    def final_loss(self, steps: int) -> float | None:
        """Mean loss of the last `steps` steps, None for a training that did not come to its end."""
        last = [loss for loss in self.losses[-steps:] if loss is not None]
        return fmean(last) if self.finished and len(last) == steps else None


@dataclass(frozen=True)
class Job:
    """A trial to run: its folder and settings.

    `after` is called once with the folder of the finished run, in the process that trained it; what it returns, plain
    values, is kept with the trial. `keep`: what of the run stays (`checkpoints`, `models`). `made_from`: whatever else
    the trial depends on, such as the trial whose checkpoint it begins with (`Job.identity`).
    """

    folder: Path
    settings: Mapping[str, Any]
    after: Callable[[Path], Any] | None = None
    keep: Sequence[str] = ()
    made_from: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The text of `trial.yaml`: the config of the run, below what else the trial is made from."""
        settings = {**self.settings, "output_dir": str(self.folder / "run")}
        config = validate(PretrainConfig, settings, where=str(self.folder / "trial.yaml"))
        inputs = {
            "tokenizer": sha256_once(config.tokenizer / "tokenizer.json"),
            "data": [
                read_manifest(config.data.dir / phase_folder(name))["fingerprint"]
                for name in phase_names(config.data.phases)
            ],
        }
        made_from = json.dumps({**inputs, **self.made_from}, sort_keys=True)
        computed = {key: value for key, value in resolved(config, self.folder).items() if key != "warnings"}
        return f"# made from: {made_from}\n" + settings_text(computed)


def parametrization_changes(name: str) -> dict[str, Any]:
    """Dotted keys that choose one of `PARAMETRIZATIONS`; TrainError for an unknown name."""
    if name not in PARAMETRIZATIONS:
        raise TrainError(f"no parametrization '{name}'.{nearest(name, PARAMETRIZATIONS)}")
    return {f"parametrization.{key}": value for key, value in PARAMETRIZATIONS[name].items()}


def settings_of(base: Path, inputs: Inputs, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base config as plain values, with the tokenizer and data of `inputs` and `changes` (dotted keys) applied.

    Raises TrainError where one of the inputs is missing.
    """
    inputs.check()
    own = {"tokenizer": str(inputs.tokenizer), "data.dir": str(inputs.data), "device": "cpu"}
    return changed_settings(base, {**own, **changes})


def first_state(
    base: Path, inputs: Inputs, changes: Mapping[str, Any]
) -> tuple[PretrainConfig, Any, torch.optim.Optimizer]:
    """Config, model and optimizer as a trial begins with them, at `optimizer.lr`, in this process on the CPU."""
    config = validate(PretrainConfig, settings_of(base, inputs, {"output_dir": ".", **changes}), where=str(base))
    vocab_size = len(AutoTokenizer.from_pretrained(config.tokenizer))
    model, parametrization = build_model(config, vocab_size=vocab_size, device=torch.device("cpu"))
    groups = parameter_groups(model, lr_factor=parametrization.lr_factor, settings=config.optimizer)
    for group in groups:
        group["lr"] = config.optimizer.lr * group["lr_factor"]
    settings = config.optimizer
    return config, model, torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps, fused=True)


def run_trial(folder: Path, settings: Mapping[str, Any]) -> Trial:
    """Train with `settings` in `folder`, or return what is there from the same settings.

    Raises TrainError when the training could not begin, KeyboardInterrupt when it was stopped.
    """
    return run_job(Job(folder, settings))


class Workers:
    """Processes that run trials, `count` at a time; each trial says what it does in a log beside its folder.

    with Workers(2) as workers:
        trials = workers.run(jobs)
    """

    def __init__(self, count: int, *, progress: bool = True) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)
        self._progress = progress

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)

    def run(self, jobs: Sequence[Job]) -> list[Trial]:
        """The trials of all jobs, in their order. One that fails ends the study, when those that run are done."""
        trials: dict[int, Trial] = {}
        futures = {self._pool.submit(_run_quietly, job): index for index, job in enumerate(jobs)}
        with tqdm(desc="trials", unit="trial", total=len(jobs), disable=None if self._progress else True) as bar:
            for future in as_completed(futures):
                trials[futures[future]] = future.result()
                bar.update()
        return [trials[index] for index in range(len(jobs))]


def _end_with_parent() -> None:
    """A killed study leaves nobody behind who trains on, and holds a trial that the same command goes on with."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_quietly(job: Job) -> Trial:
    """In a process of its own, which writes to the job's log: many at a time cannot share a terminal."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with _output_to(job.folder.parent / f"{job.folder.name}.log"):
        return run_job(job)


def run_job(job: Job) -> Trial:
    """Run a job's trial, or return what is there of it. Two processes take turns at the same folder."""
    folder, done = job.folder, job.folder / "done.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder.parent / f".{folder.name}.lock"):
        config, text, log = folder / "trial.yaml", job.identity, RunLog(folder / "run" / "metrics.jsonl")
        if folder.exists() and (not config.is_file() or config.read_text() != text):
            shutil.rmtree(folder)
        if not done.is_file():
            folder.mkdir(exist_ok=True)
            write_whole(config, text)
            code = pretrain.main([str(config)])
            if code >= 128:
                raise KeyboardInterrupt
            diverged = any(record.get("loss") is None for record in log.lines())
            if code != 0 and not diverged:
                raise TrainError(
                    f"{config}: the training did not run (its message is above, or in {folder}.log). Correct the base "
                    "config."
                )
            found = None if job.after is None or code else job.after(folder / "run")
            write_whole(done, json.dumps({"finished": code == 0, "found": found}) + "\n")
        for leftover in {"checkpoints", "models"} - set(job.keep):
            shutil.rmtree(folder / "run" / leftover, ignore_errors=True)
        outcome = json.loads(done.read_text())
        return Trial(log.lines(), bool(outcome["finished"]), outcome["found"])


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """What this process and the libraries in it print goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with path.open("w") as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for place, old in zip((1, 2), before, strict=True):
                os.dup2(old, place)
                os.close(old)
