"""Loss spikes: found on the device, left out at once, and undone with their rows when they come in a row.

`SpikeGuard` decides within the step, from values that every rank has alike, so ranks agree without talking and the
host never waits. `SpikeRecord` is the run's memory of what was left out (`spikes.json`).
"""

import json
import os
from pathlib import Path
from typing import Any

import torch

from train.config import SpikeSettings
from train.curriculum.plan import StepPlan
from train.spikes.not_finite import Finding


class SpikeGuard:
    """Six-sigma test of the loss and of the gradient norm's logarithm against the phase's last `window` good steps.

    Norms of small batches have a long tail to the right; their logarithm has not. The window starts anew with each
    phase, since a new mixture, context length or RoPE base moves both for good reasons; a phase is judged from its
    `min_steps`-th good step on. What is not finite is a spike at any time.
    """

    def __init__(self, settings: SpikeSettings, device: torch.device) -> None:
        self.settings = settings
        self._values = torch.zeros((2, settings.window), device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._slots = torch.arange(settings.window, device=device)

    def reset(self) -> None:
        """Forget the past (a phase begins)."""
        self._count.zero_()

    def check(
        self, loss: torch.Tensor, grad_norm: torch.Tensor, row_stands_out: torch.Tensor | bool = False
    ) -> torch.Tensor:
        """1.0 where the step is a spike, else 0.0; 0-dim float32 on the device. Good steps enter the window.

        `row_stands_out` is the verdict on the step's rows (train/spikes/row_guard.py).
        """
        finite = loss.isfinite() & grad_norm.isfinite()
        latest = torch.stack([loss.detach().float(), grad_norm.detach().float().clamp_min(1e-30).log()])
        filled = (self._slots < self._count).float()
        size = filled.sum().clamp_min(1)
        mean = (self._values * filled).sum(dim=1) / size
        deviation = (((self._values - mean[:, None]) ** 2 * filled).sum(dim=1) / size).sqrt()
        outlier = (latest > mean + self.settings.sigma * deviation).any() & (self._count >= self.settings.min_steps)
        spike = outlier | ~finite | row_stands_out
        slot = (self._slots == self._count % self.settings.window) & ~spike
        self._values = torch.where(slot, latest[:, None], self._values)
        self._count += (~spike).long()
        return spike.float()

    def state_dict(self) -> dict[str, Any]:
        return {"values": self._values.tolist(), "count": int(self._count)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self._values.device
        self._values = torch.tensor(state["values"], device=device)
        self._count = torch.tensor(state["count"], dtype=torch.int64, device=device)


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

    def see(self, records: list[dict[str, Any]]) -> dict[int, Finding | None] | None:
        """Take in the host's view of finished steps; the spiked ones when it is time to roll back, else None, each with
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
