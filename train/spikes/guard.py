"""Loss spikes: found on the device, left out at once, and undone with their rows when they come in a row.

`SpikeGuard` asks its policies within the step, on the device, so that the host never waits. `SpikeRecord` is the run's
memory of what was left out (`spikes.json`).
"""

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import torch

from data_recipes.registry import named_subclasses
from train.config import SpikeSettings
from train.curriculum.batches import MicroBatch
from train.curriculum.plan import Phase, StepPlan
from train.errors import TrainError
from train.launch.world import World
from train.spikes.not_finite import Finding


class SpikePolicy:
    """Base of the policies that decide, within a step and on the device, whether it is a spike; hooks do nothing here.

    To add one, write a subclass with a `name` into a module of this package: it is found, and on by default.
    """

    name: ClassVar[str]

    def __init__(self, settings: SpikeSettings, model: Any, world: World) -> None:
        self.settings, self.model, self.world = settings, model, world

    def reset(self) -> None:
        """Forget the past (a phase begins)."""

    def enter(self, phase: Phase) -> None:
        """The steps to come are of `phase`, which may have begun before."""

    def before_step(self) -> None:
        """Before the first forward pass of a step."""

    def before_forward(self, batch: MicroBatch) -> None:
        """The next forward pass in training mode is that of `batch`."""

    def judge(self, loss: torch.Tensor, grad_norm: torch.Tensor, record: dict[str, Any]) -> torch.Tensor:
        """Whether the step is a spike, 0-dim bool, the same on every rank; may add tensors to the step's record."""
        raise NotImplementedError

    def remember(self, spike: torch.Tensor) -> None:
        """What all policies found of the step judged last (0-dim bool): good steps are what later ones are held to."""

    def on_record(self, record: dict[str, Any], plan: StepPlan) -> str:
        """When a record reaches the host: give figures their final form; why this policy found a spike, or nothing."""
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Plain values that must survive a resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""


class SpikeGuard:
    """The policies that the config names, or all of them: a step is a spike when one of them finds one."""

    def __init__(self, settings: SpikeSettings, model: Any, world: World) -> None:
        known = named_subclasses(SpikePolicy)
        names = list(known) if settings.policies is None else settings.policies
        for name in names:
            if name not in known:
                raise TrainError(f"spikes.policies: no policy '{name}'. Known: {', '.join(known)}.")
        self.policies = {name: known[name](settings, model, world) for name in names}

    def check(self, record: dict[str, Any]) -> torch.Tensor:
        """1.0 where the step of this record is a spike, else 0.0; 0-dim float32 on the device.

        What is not finite is a spike at any time.
        """
        loss, grad_norm = record["loss"], record["grad_norm"]
        spike = ~(loss.isfinite() & grad_norm.isfinite())
        for policy in self.policies.values():
            spike = spike | policy.judge(loss, grad_norm, record)
        for policy in self.policies.values():
            policy.remember(spike)
        return spike.float()

    def explain(self, record: dict[str, Any], plan: StepPlan) -> str:
        """Give a record on the host its final form; why its step was a spike, beyond loss and gradient norm."""
        reasons = [policy.on_record(record, plan) for policy in self.policies.values()]
        return "; ".join(reason for reason in reasons if reason)

    def state_dict(self) -> dict[str, Any]:
        return {name: policy.state_dict() for name, policy in self.policies.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, policy in self.policies.items():
            policy.load_state_dict(state[name])


class StepOutliers(SpikePolicy):
    """Six-sigma test of the loss and of the gradient norm's logarithm against the phase's last `window` good steps.

    Norms of small batches have a long tail to the right; their logarithm has not. The window starts anew with each
    phase, since a new mixture, context length or RoPE base moves both for good reasons; a phase is judged from its
    `min_steps`-th good step on.
    """

    name = "steps"

    def __init__(self, settings: SpikeSettings, model: Any, world: World) -> None:
        super().__init__(settings, model, world)
        self._values = torch.zeros((2, settings.window), device=world.device)
        self._latest = torch.zeros(2, device=world.device)
        self._count = torch.zeros((), dtype=torch.int64, device=world.device)
        self._slots = torch.arange(settings.window, device=world.device)

    def reset(self) -> None:
        self._count.zero_()

    def judge(self, loss: torch.Tensor, grad_norm: torch.Tensor, record: dict[str, Any]) -> torch.Tensor:
        self._latest = torch.stack([loss.detach().float(), grad_norm.detach().float().clamp_min(1e-30).log()])
        filled = (self._slots < self._count).float()
        size = filled.sum().clamp_min(1)
        mean = (self._values * filled).sum(dim=1) / size
        deviation = (((self._values - mean[:, None]) ** 2 * filled).sum(dim=1) / size).sqrt()
        beyond = self._latest > mean + self.settings.sigma * deviation
        return beyond.any() & (self._count >= self.settings.min_steps)

    def remember(self, spike: torch.Tensor) -> None:
        slot = (self._slots == self._count % self.settings.window) & ~spike
        self._values = torch.where(slot, self._latest[:, None], self._values)
        self._count += (~spike).long()

    def state_dict(self) -> dict[str, Any]:
        return {"values": self._values.tolist(), "count": int(self._count)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._values.copy_(torch.tensor(state["values"]))
        self._count.fill_(state["count"])


class SpikeRecord:
    """`spikes.json` of a run: spikes seen, roll-backs, and the steps whose rows are never read again.

    Written before a roll-back begins, so a kill in the middle of it changes nothing.
    """

    def __init__(self, path: Path, settings: SpikeSettings, *, active: bool) -> None:
        self._path = path
        self._settings = settings
        self._active = active
        self._content: dict[str, Any] = {"rollbacks": []}
        if path.exists():
            self._content = json.loads(path.read_text())
        self._recent: dict[int, Finding | None] = {}

    @property
    def rollbacks(self) -> list[dict[str, Any]]:
        return self._content["rollbacks"]

    def is_skipped(self, step: int) -> bool:
        """Whether the rows of the update after `step` finished ones are left out."""
        return any(step + 1 in rollback["skipped_steps"] for rollback in self.rollbacks)

    def update(self, records: list[dict[str, Any]]) -> dict[int, Finding | None] | None:
        """Count the spikes among finished steps; the spiked ones when it is time to roll back, else None, each with
        what was not finite in it, if anything.

        Steps are counted as in `StepPlan.step` (from 0); records' `step` is from 1.
        """
        for record in records:
            if record.get("spike"):
                self._recent[record["step"] - 1] = record.get("not_finite")
            oldest = record["step"] - self._settings.within
            self._recent = {step: finding for step, finding in self._recent.items() if step >= oldest}
            if len(self._recent) >= self._settings.rollback_after:
                return self._recent
        return None

    def add_rollback(
        self,
        plans: list[StepPlan],
        *,
        to_step: int,
        worst_rows: list[dict[str, Any]],
        not_finite: dict[int, Finding],
    ) -> None:
        """Record that the rows of `plans` are skipped and the run goes back to `to_step` finished updates.

        `not_finite`: what was found in steps without a finite loss or gradient norm.
        """
        self.rollbacks.append(
            {
                "to_step": to_step,
                "not_finite": [{"step": step + 1, **finding} for step, finding in not_finite.items()],
                "skipped_steps": [plan.step + 1 for plan in plans],  # as in metrics.jsonl
                "skipped_rows": [
                    {
                        "step": plan.step + 1,
                        "phase": plan.phase.name,
                        "rows": [plan.row_start, plan.row_stop],
                        "data": plan.phase.fingerprint,
                    }
                    for plan in plans
                ],
                "worst_rows": worst_rows,
            }
        )
        self._recent = {}
        if self._active:
            partial = self._path.with_name(f".{self._path.name}.partial")
            with partial.open("w") as file:
                json.dump(self._content, file, indent=2, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)

    def state_dict(self) -> dict[str, Any]:
        return {"recent": list(self._recent.items())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._recent = dict(state["recent"])
