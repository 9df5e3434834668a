"""All 28 mixes planned by the build's own code over made counts: totals, epochs, look-ahead, disk, memory, time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.packing.stream import Spans, locate, split_by_unit
from data_recipes.recipes.recipe import published_recipes
from data_recipes.tokens.stored import StoredTokens
from data_recipes.tokens.units import UnitRecord

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "whole_run.py"


def simulated(tmp_path: Path, *options: str) -> dict:
    out = tmp_path / "figures.json"
    subprocess.run([sys.executable, str(SCRIPT), "--out", str(out), *options], check=True, stdout=subprocess.DEVNULL)
    return json.loads(out.read_text())


def check(figures: dict, scale: float) -> None:
    recipes = {recipe.key: recipe for recipe in published_recipes()}
    assert [phase["recipe"] for phase in figures["phases"]] == list(recipes)
    for phase in figures["phases"]:
        recipe = recipes[phase["recipe"]]
        asked = recipe.tokens if scale == 1 else round(scale * recipe.tokens)
        assert abs(phase["tokens"] - asked) <= recipe.context_length / 2
        assert phase["order_holds_every_row"]
    assert figures["tokens"] == figures["forecast"]["drawn"] == sum(phase["tokens"] for phase in figures["phases"])
    # Only where the context is longer than before are documents drawn one by one.
    most = {phase["recipe"]: phase["stretches"] for phase in figures["phases"]}
    assert min(most["26"], most["27"]) > 50 * max(count for key, count in most.items() if key not in ("26", "27"))

    repeated = 0
    for source in figures["sources"]:
        epochs = source["drawn"] / source["tokens"]
        assert source["forecast_epochs"] == pytest.approx(epochs, rel=1e-3)
        assert min(source["drawn"], source["tokens"]) <= source["tokenised"] <= source["tokens"]
        repeated += epochs > 1
    assert repeated > 20, "sources that are gone through more than once are a part of what is planned"
    assert sum(source["tokenised"] for source in figures["sources"]) == figures["tokenised"]


def test_a_small_part_of_the_curriculum_is_planned_with_its_totals_and_epochs(tmp_path):
    check(simulated(tmp_path, "--scale", "0.003"), 0.003)


@pytest.mark.slow
def test_the_whole_curriculum_is_planned_in_a_minute_and_a_gibibyte(tmp_path):
    figures = simulated(tmp_path)
    check(figures, 1)
    assert figures["tokens"] == pytest.approx(1.1243868e12, rel=1e-7)
    assert sum(figures["seconds"].values()) < 60, "seconds of one core"
    assert figures["peak_bytes"] < 2**30
    # What the stores then hold is what was forecast: a fill takes 2 % more units than its estimate.
    for name, tolerance in (("tokenised", 0.03), ("store_bytes", 0.03)):
        assert figures[name] == pytest.approx(figures["forecast"][name], rel=tolerance)
    documents = sum(phase["documents"] for phase in figures["phases"])
    assert documents == pytest.approx(figures["forecast"]["documents"], rel=0.10)


class Counted(StoredTokens):
    """Tokens of which only the units' sizes are known."""

    key = fingerprint = "counted"  # type: ignore[assignment]
    sequential = False  # type: ignore[assignment]
    seed = 1

    def __init__(self, sizes: list[int]) -> None:
        self.records = {number: UnitRecord(size, 1, 1, {}, None, [], {}) for number, size in enumerate(sizes)}
        self.ends = {}
        self.unit_count = len(sizes)  # type: ignore[misc]

    unit_count = 0  # type: ignore[assignment]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), min_size=1, max_size=6),
)
def test_spans_are_cut_where_units_end_in_any_epoch_and_beside_empty_units(sizes, wanted):
    store = Counted(sizes)
    tokens = [
        (unit, place)
        for epoch in range(2 + 300 // sum(sizes))
        for unit in store.unit_order(epoch).tolist()
        for place in range(sizes[unit])
    ]
    starts = np.array([start for start, _ in wanted])
    spans = Spans(starts, starts + np.array([length for _, length in wanted]))
    cut = split_by_unit(store, spans)
    assert (cut.stop > cut.start).all()
    for number, (start, length) in enumerate(wanted):
        here = cut.span == number
        pieces = zip(cut.unit[here].tolist(), cut.start[here].tolist(), cut.stop[here].tolist(), strict=True)
        found = [(unit, place) for unit, first, last in pieces for place in range(first, last)]
        assert found == tokens[start : start + length]
    unit, inside, room = locate(store, starts)
    assert list(zip(unit.tolist(), inside.tolist(), strict=True)) == [tokens[start] for start in starts]
    assert (inside + room == np.array(sizes)[unit]).all()
