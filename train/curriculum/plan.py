"""One table that gives for any step: which phase, which rows, learning rate, context length, RoPE base, mask.

Everything that changes in the course of a run is derived here from the step counter alone. Step `t` (from 0) reads
rows t*B..(t+1)*B of its phase, counted from the phase's first step. A phase's last rows that do not fill a step
are not read (at most one step's worth; `rows_left_over` counts them).

Only the phases at hand need to be on the disk: what a finished one held is known from the run's checkpoints, and a run
goes as far as there are rows. Nothing that is done in a step depends on which phases lie there.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_recipes.rows.reader import PackedRows
from train.config import PretrainConfig, RecomputationSettings, StageSettings, phase_names
from train.curriculum.schedule import Schedule, make_schedule
from train.errors import TrainError


@dataclass(frozen=True)
class PhaseRows:
    """The rows of a phase: built; or (`built` is None) trained and gone, or only declared by a recipe.

    `subsets`: name, domain and tokens of each subset of the recipe, by subset id.
    """

    name: str
    fingerprint: str
    context_length: int
    rows: int
    subsets: tuple[tuple[str, str | None, int], ...] = ()
    built: PackedRows | None = None

    @property
    def packed(self) -> PackedRows:
        """The rows themselves; TrainError where they are not on the disk."""
        if self.built is None:
            raise TrainError(
                f"phase {self.name}: its rows are needed, but not in data.dir any more. Build it again "
                f"(`yulanmini data build {self.name}`)."
            )
        return self.built

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint records, so that the phase is known when its rows are gone."""
        return {key: value for key, value in vars(self).items() if key in _FACTS}


_FACTS = ("name", "fingerprint", "context_length", "rows", "subsets")


@dataclass(frozen=True, kw_only=True)
class Phase(PhaseRows):
    """A phase of the curriculum: steps `first_step` <= t < `first_step + steps`.

    `micro_batch_rows` None is a rank's whole share, or with `fits_rows` yet to be chosen (train/model_setup/memory.py).
    """

    rows_per_step: int
    first_step: int
    rope_theta: float | None
    document_mask: bool
    micro_batch_rows: int | None
    fits_rows: bool
    recomputation: RecomputationSettings
    rebalance: bool

    @property
    def steps(self) -> int:
        return self.rows // self.rows_per_step

    @property
    def end_step(self) -> int:
        """The number of finished updates at which the phase is over."""
        return self.first_step + self.steps

    @property
    def rows_left_over(self) -> int:
        return self.rows - self.steps * self.rows_per_step


@dataclass(frozen=True)
class StepPlan:
    """What the update after `step` finished ones does; rows are those of the phase's folder."""

    step: int
    phase: Phase
    row_start: int
    row_stop: int
    lr: float

    @property
    def starts_phase(self) -> bool:
        return self.step == self.phase.first_step

    @property
    def ends_phase(self) -> bool:
        return self.step + 1 == self.phase.end_step


class Curriculum:
    """The phases in order and the schedule over them. `unknown`: phases that the config names after these, of which
    nothing is known yet."""

    def __init__(self, phases: Sequence[Phase], schedule: Schedule, unknown: Sequence[str] = ()) -> None:
        self.phases = tuple(phases)
        self.schedule = schedule
        self.unknown = tuple(unknown)
        self._starts = [phase.first_step for phase in self.phases]

    @property
    def total_steps(self) -> int:
        return self.phases[-1].end_step

    def at(self, step: int) -> StepPlan:
        """The plan of the update that follows `step` finished ones, 0 <= step < total_steps."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} is outside 0..{self.total_steps - 1}")
        phase = self.phases[bisect_right(self._starts, step) - 1]
        start = (step - phase.first_step) * phase.rows_per_step
        return StepPlan(step, phase, start, start + phase.rows_per_step, self.schedule.lr_at(step))

    def readable_end(self, step: int) -> int:
        """How far a run that has done `step` steps can go with the rows that are on the disk; TrainError where they are
        missing in the middle of a phase."""
        for phase in self.phases:
            if phase.built is None and phase.end_step > step:
                if phase.first_step < step:
                    phase.packed  # noqa: B018  says what is missing
                return phase.first_step
        return self.total_steps

    def waiting_for(self, end: int) -> list[str]:
        """The phases after step `end`, the end of what can be read."""
        return [*(phase.name for phase in self.phases if phase.first_step >= end), *self.unknown]

    def phase_ending_at(self, step: int) -> Phase | None:
        """The phase that is over after exactly `step` updates, or None."""
        index = bisect_right(self._starts, step - 1) - 1
        return self.phases[index] if index >= 0 and self.phases[index].end_step == step else None


def make_curriculum(config: PretrainConfig, declared: Sequence[PhaseRows]) -> Curriculum:
    """The table for `declared` phases under the config's stages and schedule; TrainError where they disagree."""
    stages = _stage_by_phase(config, [rows.name for rows in declared])
    phases: list[Phase] = []
    step = 0
    for rows in declared:
        stage = stages[rows.name]
        if stage.context_length and stage.context_length != rows.context_length:
            raise TrainError(
                f"stages: phase {rows.name} is declared with context length {stage.context_length}, but "
                f"{rows.built.folder if rows.built else 'its recipe'} has {rows.context_length}. Change one of them."
            )
        if config.tokens_per_step % rows.context_length:
            raise TrainError(
                f"tokens_per_step: {config.tokens_per_step:,} is not a multiple of the context length "
                f"{rows.context_length:,} of phase {rows.name}."
            )
        rows_at_once = stage.micro_batch_rows or config.micro_batch_rows
        phase = Phase(
            **vars(rows),
            rows_per_step=config.tokens_per_step // rows.context_length,
            first_step=step,
            rope_theta=stage.rope_theta,
            document_mask=stage.document_mask,
            micro_batch_rows=rows_at_once if isinstance(rows_at_once, int) else None,
            fits_rows=rows_at_once == "auto",
            recomputation=stage.recomputation or config.recomputation,
            rebalance=stage.rebalance,
        )
        if phase.steps == 0:
            raise TrainError(
                f"phase {phase.name}: {phase.rows:,} rows are less than one step of {phase.rows_per_step:,}. "
                "Build more data for it or lower tokens_per_step."
            )
        phases.append(phase)
        step = phase.end_step
    starts = {phase.name: phase.first_step for phase in phases}
    unknown = phase_names(config.data.phases)[len(phases) :]
    return Curriculum(phases, make_schedule(config, starts, end_step=step, unknown=unknown), unknown)


def _stage_by_phase(config: PretrainConfig, names: list[str]) -> Mapping[str, StageSettings]:
    """The stage of each phase; the defaults for all where the config has no stages."""
    if not config.stages:
        return dict.fromkeys(names, StageSettings(phases=[]))
    found: dict[str, StageSettings] = {}
    for index, stage in enumerate(config.stages):
        for name in phase_names(stage.phases):
            if name in found:
                raise TrainError(f"stages[{index}].phases: phase {name} is in an earlier stage already.")
            found[name] = stage
    if missing := [name for name in names if name not in found]:
        raise TrainError(f"stages: no stage holds phase {', '.join(missing)}. Add one or widen a range.")
    return found
