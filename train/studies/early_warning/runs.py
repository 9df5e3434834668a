"""The trainings of the early-warning study: jobs of its conditions, and their records with the beginning before."""

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_recipes.manifest import MANIFEST_NAME, whole_folder
from data_recipes.recipes.phases import phase_folder
from data_recipes.rows.reader import PackedRows
from train.checkpoints.rebalance import scaled_checkpoint
from train.checkpoints.sharded import check_contents, read_trainer
from train.config_file import CONFIGS
from train.studies.early_warning.bad_rows import write_bad_rows
from train.studies.early_warning.conditions import BEGINNINGS, Condition
from train.studies.trials import Inputs, Job, Trial, settings_of

RunJobs = Callable[[Sequence[Job]], list[Trial]]  # `Workers.run`
BASE = CONFIGS / "proxy-warned.yaml"
PHASES = [str(phase) for phase in range(1, 26)]
LONG_PHASES = ["26", "27"]
APART = 8  # phases between where one seed begins to read and where the next one does


@dataclass(frozen=True)
class Lengths:
    """Steps of a training from scratch, of a calm beginning, of what continues from one; rows of a bad stretch."""

    from_scratch: int = 320
    beginning: int = 250
    continued: int = 64
    bad_rows: int = 40


@dataclass(frozen=True)
class WatchedRun:
    """A finished training of the study: its records from the first step on, `begun` of them of its calm beginning."""

    condition: Condition
    seed: int
    trial: Trial
    begun: int

    @property
    def calm_steps(self) -> int:
        """After how many steps it is watched: not in a beginning that other runs have too."""
        return 0 if self.condition.is_untouched else self.begun

    @property
    def unmoved_steps(self) -> int:
        """How many of its losses the cause cannot have moved: that of a step is taken before its update."""
        return self.begun + 1 if self.calm_steps and not self.condition.rows else self.calm_steps

    @property
    def name(self) -> str:
        return folder_name(self.condition.name, self.seed)


class Trainings:
    """Makes the jobs of a study in the folder `out`, a seed at a time."""

    def __init__(self, inputs: Inputs, out: Path, lengths: Lengths, base: Path = BASE) -> None:
        self._inputs, self._out, self._lengths, self._base = inputs, out, lengths, base
        self._built = [phase for phase in PHASES if (inputs.data / phase_folder(phase)).is_dir()]

    def run(self, run_jobs: RunJobs, wanted: Sequence[tuple[Condition, int]]) -> list[WatchedRun]:
        """Train the conditions from these seeds, calm beginnings first; each seed reads rows of its own."""
        begun = sorted({(condition.begins, seed) for condition, seed in wanted if condition.begins})
        beginnings = {key: self._beginning(*key) for key in begun}
        calm = dict(zip(beginnings, run_jobs(list(beginnings.values())), strict=True))
        jobs = [
            self._continued(condition, seed, beginnings[condition.begins, seed])
            if condition.begins
            else self._from_scratch(condition, seed)
            for condition, seed in wanted
        ]
        found = []
        for (condition, seed), trial in zip(wanted, run_jobs(jobs), strict=True):
            before = calm[condition.begins, seed] if condition.begins else None
            found.append(WatchedRun(condition, seed, after(before, trial), len(before.records) if before else 0))
        return found

    def _phases(self, seed: int, *, skip: int = 0) -> list[str]:
        """The phases that a seed reads from, after the first `skip` of them."""
        first = (APART * seed + skip) % len(self._built)
        return [*self._built[first:], *self._built[:first]][: max(len(self._built) - 1, 1)]

    def _settings(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        return settings_of(self._base, self._inputs, changes)

    def _from_scratch(self, condition: Condition, seed: int) -> Job:
        own = {"data.phases": self._phases(seed), "seed": seed, "max_steps": self._lengths.from_scratch}
        return Job(
            self._out / "trials" / folder_name(condition.name, seed), self._settings({**own, **condition.changes})
        )

    def _beginning(self, name: str, seed: int) -> Job:
        beginning, steps = BEGINNINGS[name], self._lengths.beginning
        changes = {
            "parametrization.name": beginning.column,
            "optimizer.lr": beginning.rate,
            "data.phases": self._phases(seed),
            "seed": seed,
            "max_steps": steps,
            "checkpoint.every_steps": steps,
        }
        return Job(self._out / "beginnings" / folder_name(name, seed), self._settings(changes), keep=("checkpoints",))

    def _continued(self, condition: Condition, seed: int, beginning: Job) -> Job:
        """A run from the beginning's checkpoint on the rows that follow, with what the condition changes."""
        assert condition.begins is not None
        origin = hashlib.sha256(beginning.identity.encode()).hexdigest()[:12]
        checkpoint = beginning.folder / "run" / "checkpoints" / f"step-{self._lengths.beginning:08d}"
        if condition.moments:
            checkpoint = self._with_moments(checkpoint, *condition.moments, name=f"{origin}-{condition.name}")
        phases = self._phases(seed, skip=1)
        if condition.phase:
            phases = [condition.phase, *(phase for phase in phases if phase != condition.phase)]
        start = BEGINNINGS[condition.begins]
        changes = {
            "parametrization.name": start.column,
            "optimizer.lr": start.rate * condition.rate,
            "schedule.warmup_steps": 0,
            "init": {"path": str(checkpoint), "optimizer": True},
            "data.phases": phases,
            "seed": seed,
            "max_steps": self._lengths.continued,
            **condition.changes,
        }
        if condition.phase and (length := self._context_length(condition.phase)) != self._context_length(phases[1]):
            changes |= {"tokens_per_step": length, "model.max_position_embeddings": length}
            changes["data.phases"] = LONG_PHASES  # rows of another length would not fill a step evenly
        if condition.rows:
            rows = self._bad_rows(condition.rows, phases[:2])
            changes |= {"data.dir": str(rows), "data.phases": [condition.rows, *phases[:2]]}
        folder = self._out / "trials" / folder_name(condition.name, seed)
        return Job(folder, self._settings(changes), made_from={"beginning": origin})

    def _context_length(self, phase: str) -> int:
        return PackedRows(self._inputs.data / phase_folder(phase)).context_length

    def _with_moments(self, checkpoint: Path, kind: str, factor: float, *, name: str) -> Path:
        """A copy of a checkpoint with one kind of the optimizer's moments times a factor."""
        copy = self._out / "checkpoints" / folder_name(name)
        if not copy.is_dir():
            check_contents(checkpoint, read_trainer(checkpoint))
            scaled_checkpoint(checkpoint, copy, lambda entry: factor if entry.endswith(f".{kind}") else 1.0)
        return copy

    def _bad_rows(self, kind: str, phases: Sequence[str]) -> Path:
        """A folder of rows: a bad stretch, and the good phases that follow it."""
        first = self._inputs.data / phase_folder(phases[0])
        folder = self._out / "rows" / f"{kind}-{phase_folder(phases[0])}"
        if not (folder / MANIFEST_NAME).is_file():
            with whole_folder(folder) as partial:
                shutil.copy(self._inputs.data / MANIFEST_NAME, partial)
                for phase in phases:
                    name = phase_folder(phase)
                    shutil.copytree(self._inputs.data / name, partial / name)
                write_bad_rows(first, partial / kind, kind=kind, rows=self._lengths.bad_rows)
        return folder


def after(before: Trial | None, trial: Trial) -> Trial:
    """A training with its beginning, if any, before it, steps counted from the beginning's first."""
    if before is None:
        return trial
    steps = len(before.records)
    moved = [{**record, "step": record["step"] + steps} for record in trial.records]
    return replace(trial, records=[*before.records, *moved])


def folder_name(*parts: object) -> str:
    """`yulanmini raised 8 times`, 1 as `yulanmini-raised-8-times-1`."""
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(map(str, parts)).lower()).strip("-")
