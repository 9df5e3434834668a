"""Warm-up, constant, annealing: the learning rate as a closed form of the number of finished updates."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from data_recipes.errors import nearest
from data_recipes.recipes.phases import phase_number
from train.config import PretrainConfig, phase_names
from train.errors import TrainError

# What is left of the rate after the fraction `done` of the tail (1 at 0), never below `floor`. A shape is added here.
TAIL_SHAPES: Mapping[str, Callable[[float, float], float]] = {
    "1-sqrt": lambda done, floor: 1.0 - math.sqrt(done),
    "linear": lambda done, floor: 1.0 - done,
    "cosine": lambda done, floor: 0.5 * (1.0 + math.cos(math.pi * done)),
    # An exponential never reaches 0: without a floor it falls by a factor of 1000.
    "exponential": lambda done, floor: (floor or 1e-3) ** done,
}


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
    shape: str = "1-sqrt"
    floor: float = 0.0

    def lr_at(self, step: int) -> float:
        """Base learning rate of the update that follows `step` finished updates."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.annealing_start is None or step < self.annealing_start:
            return self.lr * rise
        done = (step - self.annealing_start) / self.annealing_steps
        return self.lr * rise * max(self.floor, TAIL_SHAPES[self.shape](min(1.0, done), self.floor))


def make_schedule(
    config: PretrainConfig, starts: Mapping[str, int], *, end_step: int, unknown: Sequence[str] = ()
) -> Schedule:
    """The schedule of a run of `end_step` steps whose phases begin at `starts`; TrainError for a start or shape that
    is not there, and for a tail to the end where that is not known: phases follow (`unknown`) that are not built."""
    warmup, annealing = config.schedule.warmup_steps or 0, config.schedule.annealing
    if config.schedule.warmup_tokens is not None:
        warmup = round(config.schedule.warmup_tokens / config.tokens_per_step)
    constant = Schedule(lr=config.optimizer.lr, warmup_steps=warmup)
    if annealing is None:
        return constant
    if annealing.shape not in TAIL_SHAPES:
        hint = nearest(annealing.shape, TAIL_SHAPES)
        raise TrainError(f"schedule.annealing.shape: '{annealing.shape}' is not valid.{hint}")
    name = str(annealing.start)
    if name not in starts:
        # A run of the first phases only ends before the tail; a phase that no stage knows is a mistake.
        known = [phase for stage in config.stages for phase in phase_names(stage.phases)] or [*starts, *unknown]
        if name not in known:
            raise TrainError(f"schedule.annealing.start: no phase '{name}'. Known: {', '.join(known)}.")
        later = [phase for phase in starts if phase_number(phase) >= phase_number(name)]
        if later:
            raise TrainError(
                f"schedule.annealing.start: phase {name} is not in this run, but {', '.join(later)} is. "
                f"Set it to '{later[0]}'."
            )
        return constant
    if annealing.steps is None and unknown:
        raise TrainError(
            f"schedule.annealing: the tail from phase {name} goes to the run's end, which is not known while phase "
            f"{', '.join(unknown)} is not built. Build it, or give schedule.annealing.steps."
        )
    return Schedule(
        lr=config.optimizer.lr,
        warmup_steps=warmup,
        annealing_start=starts[name],
        annealing_steps=annealing.steps or end_step - starts[name],
        shape=annealing.shape,
        floor=annealing.floor,
    )
