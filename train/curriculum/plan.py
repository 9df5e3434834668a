"""One table that gives for any step: which phase, which rows, learning rate, context length, RoPE base, mask.

Everything that changes in the course of a run is derived here from the step counter alone. Step `t` (from 0) reads
rows t*B..(t+1)*B of its phase, counted from the phase's first step. A phase's last rows that do not fill a step
are not read (at most one step's worth; `rows_left_over` counts them).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_recipes.recipes.phases import phase_folder
from data_recipes.rows.reader import PackedRows
from train.config import PretrainConfig, RecomputationSettings, StageSettings, phase_names
from train.curriculum.schedule import Schedule, make_schedule
from train.errors import TrainError


@dataclass(frozen=True)
class PhaseRows:
    """The rows of a phase, built already or only declared by a recipe (`built` is None).

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
        """The rows themselves; a dry run of phases that are only declared never needs them."""
        assert self.built is not None, f"phase {self.name} is declared, not built"
        return self.built


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
    """The phases in order and the schedule over them."""

    def __init__(self, phases: Sequence[Phase], schedule: Schedule) -> None:
        self.phases = tuple(phases)
        self.schedule = schedule
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

    def phase_ending_at(self, step: int) -> Phase | None:
        """The phase that is over after exactly `step` updates, or None."""
        index = bisect_right(self._starts, step - 1) - 1
        return self.phases[index] if index >= 0 and self.phases[index].end_step == step else None


def built_phases(config: PretrainConfig) -> list[PhaseRows]:
    """The phases that the config names, as built in `data.dir`; TrainError names the first one missing.

    Each manifest is read here, once for the whole run.
    """
    phases = []
    for name in phase_names(config.data.phases):
        folder = config.data.dir / phase_folder(name)
        if not folder.is_dir():
            present = sorted(path.parent.name for path in config.data.dir.glob("*/manifest.json"))
            raise TrainError(
                f"data.phases: no folder {folder} for phase '{name}'. "
                f"Present: {', '.join(present) or 'none'}. Build it with `yulanmini data build {name}`."
            )
        built = PackedRows(folder)
        subsets = tuple((subset["name"], subset["domain"], subset["tokens"]) for subset in built.manifest["subsets"])
        phases.append(PhaseRows(name, built.fingerprint, built.context_length, len(built), subsets, built))
    return phases


def read_curriculum(config: PretrainConfig) -> Curriculum:
    """The table of a run over built phases."""
    return make_curriculum(config, built_phases(config))


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
    return Curriculum(phases, make_schedule(config, starts, end_step=step))


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
