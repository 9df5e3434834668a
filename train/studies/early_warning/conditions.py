"""What the runs of the early-warning study are: causes in several severities, and runs with nothing wrong.

A cause is there from the first step, or comes after a calm beginning, whose checkpoint the run continues from with the
optimizer's state. What becomes of a run is not said here: that is judged by its outcome (outcomes.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CALM = "nothing wrong"
RISES = "rate rising too far"


@dataclass(frozen=True)
class Beginning:
    """A calm training of one phase, which others continue from."""

    column: str
    rate: float


BEGINNINGS: Mapping[str, Beginning] = {
    "yulanmini": Beginning("yulanmini", 4e-3),
    "minicpm": Beginning("minicpm", 2e-3),
    "standard": Beginning("standard", 5e-4),
}


@dataclass(frozen=True)
class Condition:
    """One severity of a cause; all its seeds are judged in the same half.

    `changes`: dotted keys of the config. Those of a run that continues from the beginning `begins`: `rate` times its
    rate, `moments` (a kind of the optimizer's state) times a factor, `rows` (a stretch of bad rows, bad_rows.py), or
    `phase` that it goes on with.
    """

    name: str
    cause: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    begins: str | None = None
    rate: float = 1.0
    moments: tuple[str, float] | None = None
    rows: str | None = None
    phase: str | None = None

    @property
    def column(self) -> str:
        """Of Table 3."""
        name = BEGINNINGS[self.begins].column if self.begins else self.changes.get("parametrization.name")
        return str(name)

    @property
    def is_of_plain_model(self) -> bool:
        """Whether the model is of the study's shape, and its column as it is in the table."""
        return not any(key.startswith(("model.", "parametrization.overrides")) for key in self.changes)

    @property
    def is_untouched(self) -> bool:
        """Whether the run only goes on as it began: it is watched from its first step."""
        return (
            self.begins is not None and self.rate == 1 and not (self.changes or self.moments or self.rows or self.phase)
        )


def _from_scratch(cause: str, column: str, rate: float, said: str = "", **changes: Any) -> Condition:
    settings = {"parametrization.name": column, "optimizer.lr": rate}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return Condition(f"{column} at {rate:g}{said and ', '}{said}", cause, settings)


def _without(scale: str, said: str, rate: float, value: Any) -> Condition:
    """YuLan-Mini's column without one of its scales."""
    changes = {"parametrization__overrides": {scale: value}}
    return _from_scratch("missing scale", "yulanmini", rate, f"no {said}", **changes)


TOO_HIGH = [
    _from_scratch("rate too high", column, rate)
    for column, rates in {
        "standard": (1.6e-2, 6.4e-2, 2.56e-1),
        "minicpm": (6.4e-2, 2.56e-1),
        "cerebras-gpt": (6.4e-2, 5.12e-1),
        "yulanmini": (1.28e-1, 2.56e-1, 1.024),
    }.items()
    for rate in rates
]
# The rate rises slowly past what the model bears: from scratch, and after a calm beginning.
RISING = [
    *(
        _from_scratch(RISES, column, rate, "slow warm-up", schedule__warmup_steps=100)
        for column, rate in (("standard", 3.2e-2), ("standard", 2.56e-1), ("minicpm", 5.12e-1), ("yulanmini", 1.024))
    ),
    *(
        Condition(
            f"{begins} rising to {factor} times",
            RISES,
            begins=begins,
            rate=factor,
            changes={"schedule.warmup_steps": 48},
        )
        for begins, factors in {"standard": (64, 512), "minicpm": (64, 256), "yulanmini": (16, 32, 64, 256)}.items()
        for factor in factors
    ),
    *(
        Condition(
            f"{begins} creeping to {factor} times",
            RISES,
            begins=begins,
            rate=factor,
            changes={"schedule.warmup_steps": 150, "max_steps": 160},
        )
        for begins, factors in {"standard": (64, 256), "minicpm": (64, 256, 1024), "yulanmini": (32, 128, 512)}.items()
        for factor in factors
    ),
]
BAD_START = [
    _from_scratch("bad initialisation", column, rate, f"{factor} times", model__initializer_range=0.05 * factor)
    for column, rate in {"yulanmini": 1.6e-2, "standard": 2e-3}.items()
    for factor in (10, 30)
]
MISSING_SCALES = [
    _without("residual_scale", "residual scale", 6.4e-2, "1"),
    _without("wesar", "WeSaR", 1.28e-1, False),
    _without("output_variance", "depth factor", 1.28e-1, "1/m_width"),
    _without("matrix_lr", "width factor on the rate", 6.4e-2, "1"),
]
RAISED = [
    Condition(f"{begins} raised {factor} times", "rate raised in the middle", begins=begins, rate=factor)
    for begins, factors in {"yulanmini": (8, 16, 32, 128, 512), "standard": (8, 32, 128), "minicpm": (32, 128)}.items()
    for factor in factors
]
OPTIMIZER = [
    Condition(f"{begins}, {kind} times {factor:g}", "optimizer state corrupted", begins=begins, moments=(kind, factor))
    for begins, kind, factor in (
        ("yulanmini", "exp_avg_sq", 1e-2),
        ("yulanmini", "exp_avg_sq", 1e-4),
        ("yulanmini", "exp_avg_sq", 0.0),
        ("yulanmini", "exp_avg", 30.0),
        ("standard", "exp_avg_sq", 1e-2),
        ("standard", "exp_avg_sq", 1e-4),
        ("standard", "exp_avg_sq", 1e-8),
        ("standard", "exp_avg", 100.0),
    )
]
BAD_ROWS = [
    Condition(f"{begins} at {factor:g} times, {rows}", "bad stretch of data", begins=begins, rate=factor, rows=rows)
    for begins, factor in (("yulanmini", 1), ("yulanmini", 16))
    for rows in ("random-ids", "one-token", "shuffled")
]
NOTHING_WRONG = [
    *(
        _from_scratch(CALM, column, rate)
        for column, rate in (
            ("standard", 5e-4),
            ("standard", 1e-3),
            ("minicpm", 2e-3),
            ("minicpm", 4e-3),
            ("cerebras-gpt", 2e-3),
            ("yulanmini", 2e-3),
            ("yulanmini", 8e-3),
        )
    ),
    _from_scratch(CALM, "yulanmini", 4e-3, "no WeSaR", parametrization__overrides={"wesar": False}),
    _from_scratch(
        CALM,
        "yulanmini",
        4e-3,
        "narrower",
        model__hidden_size=32,
        model__intermediate_size=80,
        model__num_attention_heads=2,
    ),
    _from_scratch(
        CALM,
        "yulanmini",
        4e-3,
        "wider and shallower",
        model__hidden_size=96,
        model__intermediate_size=240,
        model__num_attention_heads=6,
        model__num_hidden_layers=6,
    ),
    *(
        condition
        for begins in BEGINNINGS
        for condition in (
            Condition(f"{begins}, continued", CALM, begins=begins),
            Condition(f"{begins}, another mixture", CALM, begins=begins, phase="25"),
            Condition(f"{begins}, rate times 1.5", CALM, begins=begins, rate=1.5),
        )
    ),
    *(
        Condition(f"{begins}, continued for longer", CALM, begins=begins, changes={"max_steps": 160})
        for begins in BEGINNINGS
    ),
    Condition("yulanmini, rate halved", CALM, begins="yulanmini", rate=0.5),
    Condition("yulanmini, rate doubled", CALM, begins="yulanmini", rate=2.0),
    Condition("yulanmini, longer context", CALM, begins="yulanmini", phase="26"),
]

CONDITIONS: Sequence[Condition] = (
    *TOO_HIGH,
    *RISING,
    *BAD_START,
    *MISSING_SCALES,
    *RAISED,
    *OPTIMIZER,
    *BAD_ROWS,
    *NOTHING_WRONG,
)
