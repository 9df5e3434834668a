"""The learning rate at every edge of the schedule, against its closed form and the published figures."""

import math
from itertools import pairwise

import pytest

from train.curriculum.schedule import Schedule

# facts.md 3.1 and 3.2: base rate, 10B tokens of warm-up, the tail from step 243,198 over 19,000 steps.
PUBLISHED = Schedule(
    lr=1e-2,
    warmup_steps=2_422,
    annealing_start=243_198,
    annealing_steps=19_000,
    shape="1-sqrt",
    floor=1 - math.sqrt(18_802 / 19_000),
)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1e-2 / 2_422),
        (1, 2e-2 / 2_422),
        (2_420, 1e-2 * 2_421 / 2_422),
        (2_421, 1e-2),
        (2_422, 1e-2),
        (243_197, 1e-2),
        (243_198, 1e-2),
        (243_199, 1e-2 * (1 - math.sqrt(1 / 19_000))),
        (253_006, 1e-2 * (1 - math.sqrt(9_808 / 19_000))),
        (261_999, 1e-2 * (1 - math.sqrt(18_801 / 19_000))),
        (262_000, 1e-2 * (1 - math.sqrt(18_802 / 19_000))),
        (262_001, 1e-2 * (1 - math.sqrt(18_802 / 19_000))),
        (262_198, 1e-2 * (1 - math.sqrt(18_802 / 19_000))),
        (300_000, 1e-2 * (1 - math.sqrt(18_802 / 19_000))),
    ],
)
def test_published_schedule_at_its_edges(step: int, expected: float) -> None:
    assert PUBLISHED.lr_at(step) == pytest.approx(expected, rel=1e-12)


def test_the_published_floor_is_the_quoted_end_rate() -> None:
    assert PUBLISHED.lr_at(262_500) == pytest.approx(5.22e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("shape", "middle", "end"),
    [
        ("1-sqrt", 1 - math.sqrt(0.5), 0.01),
        ("linear", 0.5, 0.01),
        ("cosine", 0.5, 0.01),
        ("exponential", 0.1, 0.01),
    ],
)
def test_each_tail_starts_at_the_full_rate_falls_and_ends_at_the_floor(shape: str, middle: float, end: float) -> None:
    schedule = Schedule(lr=2.0, annealing_start=100, annealing_steps=50, shape=shape, floor=0.01)
    rates = [schedule.lr_at(step) for step in range(99, 160)]
    assert rates[0] == rates[1] == 2.0
    assert schedule.lr_at(125) == pytest.approx(2 * middle)
    assert schedule.lr_at(150) == pytest.approx(2 * end)
    assert all(later <= earlier for earlier, later in pairwise(rates))


def test_without_warm_up_and_tail_the_rate_is_constant() -> None:
    schedule = Schedule(lr=0.5)
    assert [schedule.lr_at(step) for step in (0, 1, 10_000)] == [0.5] * 3


def test_a_run_that_begins_in_the_tail_warms_up_along_it() -> None:
    schedule = Schedule(lr=1.0, warmup_steps=4, annealing_start=0, annealing_steps=16, shape="linear")
    assert [schedule.lr_at(step) for step in range(5)] == pytest.approx(
        [0.25, 0.5 * 15 / 16, 0.75 * 14 / 16, 13 / 16, 12 / 16]
    )
