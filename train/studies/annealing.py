"""Does the tail of the schedule do what the report says of it? Its shape, length and floor, and what is read in it.

Each seed (initialisation and order of documents) is trained once at each constant rate. Tails begin with its
checkpoints, the optimizer's moments included, and all end at the same step, so that every cell has had the same budget;
unless the mixture is another, they have read the very same rows. Cells are compared within each seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from data_recipes.errors import nearest
from data_recipes.files import one_at_a_time
from data_recipes.manifest import fingerprint_of
from data_recipes.recipes.phases import phase_folder
from train.checkpoints.export import export_checkpoint
from train.checkpoints.sharded import checkpoints_in
from train.config_file import CONFIGS, changed_settings
from train.curriculum.schedule import TAIL_SHAPES
from train.errors import TrainError
from train.studies.annealing_rows import Budget, build_rows
from train.studies.trials import Job, Workers, check_stages

BASE = CONFIGS / "proxy-annealing.yaml"
KIND = "annealing-study"
SHAPES = tuple(TAIL_SHAPES)
PUBLISHED = "1-sqrt"
PUBLISHED_TAIL = 8  # per cent of the budget (facts.md 3.2)
PUBLISHED_FLOOR = 5.22e-3  # of the rate
FLOORS = (PUBLISHED_FLOOR, 0.1)  # the other is a rate that is still high at the end
# A long tail may help only because the rate before it was high: shapes and lengths are tried at a lower one too.
LOWER_RATES = (2.5e-3,)
HELD = "held"
SECONDS_A_STEP, SECONDS_A_TRIAL = 0.09, 5.0
Mixture = Literal["usual", "richer", "spread"]


class Score(Protocol):
    """What is asked of a finished model's folder, in whichever process has made it: `heldout`, the loss by domain;
    `solved` of `problems`, and the share `chance` that guessing solves."""

    @property
    def settings(self) -> dict[str, Any]: ...

    def __call__(self, model: Path) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Cell:
    """A way to end the budget: `shape` None holds the rate; `tail` in per cent, of the rows or of the curve; `rate`
    None is the base config's."""

    shape: str | None
    tail: int | None = None
    mixture: Mixture = "usual"
    floor: float = 0.0
    rate: float | None = None

    @property
    def name(self) -> str:
        parts = [self.mixture if self.mixture != "usual" else "", self.shape or HELD, str(self.tail or "")]
        parts += [f"floor-{self.floor:g}" if self.floor else "", f"at-{self.rate:g}" if self.rate else ""]
        return "-".join(part for part in parts if part)

    @property
    def is_whole(self) -> bool:
        """Whether it is trained from the first step; others begin with a checkpoint of the held one of their rate."""
        return self == Cell(None, rate=self.rate) or self.mixture == "spread"


@dataclass(frozen=True)
class Study:
    """`base`: the config that all trainings share; `kept`: how many of the last checkpoints are kept as models, of the
    two trainings whose models the study of averaging takes."""

    corpus: Path
    tokenizer: Path
    out: Path
    score: Score
    steps: int
    seeds: int
    shapes: Sequence[str] = SHAPES
    tails: tuple[int, ...] = (4, 8, 16)
    floors: Sequence[float] = FLOORS
    lower_rates: Sequence[float] = LOWER_RATES
    base: Path = BASE
    kept: int = 16

    @cached_property
    def base_settings(self) -> dict[str, Any]:
        return changed_settings(self.base, {})

    @cached_property
    def budget(self) -> Budget:
        return Budget(self.steps, self.base_settings["tokens_per_step"], self.tails, PUBLISHED_TAIL)

    @cached_property
    def rates(self) -> dict[float, float | None]:
        """All rates, and what their cells have as theirs."""
        return {self.base_settings["optimizer"]["lr"]: None, **{rate: rate for rate in self.lower_rates}}

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """All cells by name."""
        cells = [
            Cell(None),
            Cell(PUBLISHED, PUBLISHED_TAIL, "spread"),
            *(Cell(shape, tail) for tail in self.tails for shape in self.shapes),
            *(Cell(PUBLISHED, PUBLISHED_TAIL, floor=floor) for floor in self.floors),
            *(Cell(shape, tail, "richer") for tail in self.tails for shape in (PUBLISHED, None)),
        ]
        for rate in self.lower_rates:
            cells += [Cell(None, rate=rate)]
            cells += [Cell(shape, tail, rate=rate) for tail in self.tails for shape in self.shapes]
        return {cell.name: cell for cell in cells}

    def check(self) -> None:
        """TrainError where a run lacks what this is made from."""
        _ = self.budget
        check_stages(self.corpus, self.tokenizer)

    def rows(self, seed: int) -> Path:
        """The phases of a seed."""
        return self.out / "data" / f"seed-{seed}" / "rows"

    def folder(self, seed: int, cell: str) -> Path:
        """Where the trial of a cell lies."""
        return self.out / "trials" / trial_name(seed, cell)

    def begin_seed(self, seed: int) -> None:
        """Make the rows of a seed, unless they are there."""
        place = self.rows(seed).parent
        place.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(place.parent / f".{place.name}.lock"):
            build_rows(self.budget, self.corpus, self.tokenizer, place, seed=seed)

    def job(self, seed: int, cell: Cell) -> Job:
        """The training of a cell."""
        phases = self._phases(cell)
        changes: dict[str, Any] = {
            "tokenizer": str(self.tokenizer),
            "data.dir": str(self.rows(seed)),
            "data.phases": phases,
            "seed": seed,
        }
        made_from: dict[str, Any] = {"scores": self.score.settings}
        if cell.shape is not None:
            curve = {"shape": cell.shape, "floor": cell.floor}
            changes["schedule.annealing"] = {"start": phases[0 if cell.mixture != "spread" else -1], **curve}
        if cell.rate is not None:
            changes["optimizer.lr"] = cell.rate
        if not cell.is_whole:
            held = self.job(seed, Cell(None, rate=cell.rate))
            begin = self.steps - self.budget.tail_steps(cell.tail or 0)
            changes["init"] = {"path": str(held.folder / "run/checkpoints" / f"step-{begin:08d}"), "optimizer": True}
            changes["schedule.warmup_steps"] = 0
            made_from["begins_with"] = fingerprint_of(held.identity)
        averaged = cell.name in (HELD, f"{PUBLISHED}-{PUBLISHED_TAIL}")
        begun_with = cell.shape is None and cell.is_whole
        if averaged or begun_with:
            every = max(self._length(cell) // (100 if cell.shape is None else self.kept), 1)
            changes |= {"checkpoint.every_steps": every, "checkpoint.keep_last": self.kept}
        return Job(
            self.folder(seed, cell.name),
            changed_settings(self.base, changes),
            after=End(self.score, phases[-1], self.kept if averaged else 0),
            keep=("checkpoints",) * begun_with + ("models",) * averaged,
            made_from=made_from,
        )

    def _length(self, cell: Cell) -> int:
        """Steps of its own."""
        return self.steps if cell.is_whole else self.budget.tail_steps(cell.tail or 0)

    def _phases(self, cell: Cell) -> list[str]:
        if cell.mixture == "usual":
            return self.budget.usual_phases(cell.tail)
        return [f"richer-{cell.tail}"] if cell.mixture == "richer" else ["spread-start", f"spread-{cell.tail}"]

    @property
    def trials(self) -> int:
        """How many there are."""
        return self.seeds * len(self.cells)

    @property
    def steps_to_train(self) -> int:
        """Of all trials together."""
        return self.seeds * sum(self._length(cell) for cell in self.cells.values())

    def hours(self, workers: int) -> float:
        """A forecast, from what a step and a trial's beginning and scores take of a quiet core of ours."""
        return (SECONDS_A_STEP * self.steps_to_train + SECONDS_A_TRIAL * self.trials) / workers / 3600


@dataclass(frozen=True)
class End:
    """What is done with a finished run, in the process that trained it: its last model is scored, and `exported` of its
    last checkpoints are turned into models."""

    score: Score
    phase: str
    exported: int = 0

    def __call__(self, run: Path) -> dict[str, Any]:
        models = run / "models"
        for checkpoint in checkpoints_in(run)[-self.exported :] if self.exported else []:
            if not (models / checkpoint.name).exists():
                export_checkpoint(checkpoint, models / checkpoint.name)
        return self.score(models / phase_folder(self.phase))


def train_cells(study: Study, workers: Workers, *, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Train what is still to be trained, seed by seed, and what was found of each trial, by `seed-0/CELL`."""
    found: dict[str, dict[str, Any]] = {}
    cells = list(study.cells.values())
    for seed in range(study.seeds):
        say(f"seed {seed}")
        study.begin_seed(seed)
        for whole in (True, False):
            found |= train_some(study, [(seed, cell) for cell in cells if cell.is_whole == whole], workers)
    return found


def train_some(study: Study, some: Sequence[tuple[int, Cell]], workers: Workers) -> dict[str, dict[str, Any]]:
    """The trials of some cells whose first checkpoints are there; TrainError for one that came to no end."""
    jobs = [study.job(seed, cell) for seed, cell in some]
    found = {}
    for (seed, cell), job, trial in zip(some, jobs, workers.run(jobs), strict=True):
        if trial.found is None:
            raise TrainError(
                f"{job.folder}: its loss was not finite after {len(trial.records):,} steps. Lower optimizer.lr of "
                f"{study.base}."
            )
        found[trial_name(seed, cell.name)] = trial.found
    return found


def trial_name(seed: int, cell: str) -> str:
    """How results call a trial, and where it lies below `trials`."""
    return f"seed-{seed}/{cell}"


def train_only(study: Study, names: Sequence[str], workers: Workers) -> dict[str, dict[str, Any]]:
    """Train single trials, by their names in a result, and first what they begin with."""
    known = {trial_name(seed, cell.name): (seed, cell) for seed in range(study.seeds) for cell in study.cells.values()}
    for name in names:
        if name not in known:
            raise TrainError(
                f"no trial '{name}'.{nearest(name, known)} Others are called {', '.join(list(known)[:3])}, ..."
            )
    wanted = [known[name] for name in names]
    for seed in {seed for seed, _ in wanted}:
        study.begin_seed(seed)
    first = list(dict.fromkeys((seed, Cell(None, rate=cell.rate)) for seed, cell in wanted if not cell.is_whole))
    found = train_some(study, first, workers)
    found |= train_some(study, [pair for pair in wanted if pair not in first], workers)
    return {name: found[name] for name in names}
