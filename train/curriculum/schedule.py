"""Warm-up, constant, annealing: the learning rate as a closed form of the number of finished updates."""

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["1-sqrt", "linear", "cosine", "exponential"]


@dataclass(frozen=True)
class Schedule:
    """WSD schedule. `lr_at(t)` is the base rate of the update made after `t` finished ones.

    Published run: lr 0.01, warm-up 10B tokens, annealing_start 243,198, annealing_steps 19,000, shape 1-sqrt,
    floor 5.22e-3 of the base rate, where the curve was held from step 262,000 on (facts.md 3.2).
    The first update runs at lr / warmup_steps and update number `warmup_steps` at the full rate (choice of ours;
    a warm-up that begins at 0 wastes one step).
    """

    lr: float
    warmup_steps: int = 0
    annealing_start: int | None = None
    annealing_steps: int = 0
    shape: Shape = "1-sqrt"
    floor: float = 0.0

    def lr_at(self, step: int) -> float:
        """Base learning rate of the update that follows `step` finished updates."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.annealing_start is None or step < self.annealing_start:
            return self.lr * rise
        done = (step - self.annealing_start) / self.annealing_steps
        return self.lr * rise * max(self.floor, self._tail(min(1.0, done)))

    def _tail(self, done: float) -> float:
        """What is left of the rate after the fraction `done` of the tail; 1 at 0."""
        if self.shape == "1-sqrt":
            return 1.0 - math.sqrt(done)
        if self.shape == "linear":
            return 1.0 - done
        if self.shape == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        # An exponential never reaches 0: without a floor it falls by a factor of 1000.
        return (self.floor or 1e-3) ** done
