"""The published mixes: token for token the released files, classified as published, predicting the published steps."""

import csv
import gzip
import io
from collections import defaultdict
from pathlib import Path

import pytest

from data_recipes.recipes.curriculum import (
    as_json,
    check_mix,
    check_steps,
    domain_tokens,
    predicted_steps,
    published_totals,
    share_changes,
)
from data_recipes.recipes.phases import PUBLISHED_KEYS
from data_recipes.recipes.recipe import load_recipe, published_recipes

RELEASED = Path(__file__).parents[2] / "data" / "published_phases.csv.gz"


@pytest.fixture(scope="module")
def released() -> dict[str, list[dict[str, str]]]:
    """Rows of the released data-mix files by our key, in their order; amounts in B tokens as text."""
    rows = defaultdict(list)
    with gzip.open(RELEASED, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(io.StringIO(file.read())):
            short = row["phase"] == "26" and row["context"] == "4K"
            rows[row["phase"] + ("-4k" if short else "")].append(row)
    return dict(rows)


def count(btokens: str) -> int | None:
    """Whole tokens; the files hold float sums, so a value must lie within noise of a whole number."""
    if not btokens:
        return None
    tokens = round(float(btokens) * 1e9)
    assert abs(float(btokens) * 1e9 - tokens) < 1e-3
    return tokens


def test_there_are_28_mixes_in_training_order():
    recipes = published_recipes()
    assert [recipe.key for recipe in recipes] == [*map(str, range(1, 26)), "26-4k", "26", "27"]
    assert [recipe.context_length for recipe in recipes] == [4096] * 26 + [28672] * 2
    assert [recipe.name for recipe in recipes][-4:] == ["phase-25", "phase-26-4k", "phase-26", "phase-27"]


@pytest.mark.parametrize("key", PUBLISHED_KEYS)
def test_a_mix_equals_the_released_file_to_the_token(key, released):
    recipe = load_recipe(key)
    taken = [row for row in released[key] if row["selected_btokens"]]
    assert [(subset.name, subset.tokens, subset.target_tokens, subset.sft) for subset in recipe.subsets] == [
        (
            row["subset"],
            count(row["selected_btokens"]),
            count(row["target_btokens"]),
            row["is_sft"] == "1",
        )
        for row in taken
    ]
    left = [row for row in released[key] if not row["selected_btokens"]]
    assert [(item.name, item.target_tokens) for item in recipe.unselected] == [
        (row["subset"], count(row["target_btokens"])) for row in left
    ]
    shown = as_json(recipe)
    assert {item["name"]: item["tokens"] for item in shown["subsets"]} == {
        row["subset"]: count(row["selected_btokens"]) or 0 for row in released[key]
    }
    assert shown["tokens"] == sum(item["tokens"] for item in shown["subsets"])


def test_all_292_subsets_of_the_files_are_in_the_recipes(released):
    ours = {item["name"] for recipe in published_recipes() for item in as_json(recipe)["subsets"]}
    assert ours == {row["subset"] for rows in released.values() for row in rows}
    assert len(ours) == 292


def test_a_subset_has_one_domain_and_one_source_in_all_phases():
    seen: dict[str, tuple[str, str]] = {}
    for recipe in published_recipes():
        for item in as_json(recipe)["subsets"]:
            assert seen.setdefault(item["name"], (item["domain"], item["source"])) == (item["domain"], item["source"])


@pytest.mark.parametrize("key", PUBLISHED_KEYS)
def test_the_classification_gives_the_published_sums_of_every_domain(key):
    published = published_totals()["phases"][key]
    recipe = load_recipe(key)
    for domain, tokens in domain_tokens(recipe).items():
        assert tokens / 1e9 == pytest.approx(published[domain], abs=0.0051), domain
    assert check_mix(recipe).problems == ()


def test_what_phases_10_and_19_leave_open_is_kept_and_not_counted():
    ten, nineteen = load_recipe(10), load_recipe(19)
    assert {item.target_tokens for item in ten.unselected} == {80_000_000, 10_000_000}
    fineweb = next(subset for subset in nineteen.subsets if subset.name == "fineweb-edu")
    assert fineweb.target_tokens is None
    assert [(item.name, item.target_tokens) for item in nineteen.unselected] == [("fineweb-edu-2024", 16_200_000_000)]
    # The file itself states 40.173B, 0.005B more than its entries add up to.
    assert nineteen.tokens / 1e9 == pytest.approx(40.173 - 0.005, abs=0.001)


def test_a_changed_count_is_found_by_the_check():
    recipe = load_recipe(3)
    first = recipe.subsets[0]
    changed = recipe.model_copy(
        update={"subsets": (first.model_copy(update={"tokens": first.tokens + 1}), *recipe.subsets[1:])}
    )
    assert any("40,166,801,692 tokens, published 40,166,801,691" in line for line in check_mix(changed).problems)


def test_a_subset_in_the_wrong_domain_is_found_by_the_check():
    recipe = load_recipe(3)
    index = next(i for i, subset in enumerate(recipe.subsets) if subset.name == "mathtext")
    subsets = list(recipe.subsets)
    subsets[index] = subsets[index].model_copy(update={"domain": "math"})
    problems = check_mix(recipe.model_copy(update={"subsets": tuple(subsets)})).problems
    assert len(problems) == 2
    assert any(line.startswith("math ") for line in problems)


def test_published_steps_are_predicted_within_half_a_percent():
    checks = check_steps()
    assert {check.phase: check.published for check in checks} == {
        1: 9_733,
        2: 19_488,
        3: 29_187,
        4: 38_928,
        5: 48_740,
        6: 58_422,
        7: 68_166,
        8: 77_840,
        16: 155_587,
        20: 194_526,
        22: 213_995,
        25: 243_198,
        26: 253_006,
    }
    assert all(abs(check.relative_error) <= 0.005 and check.ok for check in checks)
    steps = predicted_steps()
    assert list(steps) == list(range(1, 28))
    assert steps[26] - steps[25] == pytest.approx(load_recipe(26).tokens / 4_128_768)


def test_half_a_phase_too_few_is_more_than_the_steps_allow():
    recipes = [recipe.scaled(scale=0.5) if recipe.key == "1" else recipe for recipe in published_recipes()]
    held = {check.phase: check.ok for check in check_steps(recipes)}
    assert not any(held.values())


def test_shares_change_by_less_than_3_percent_until_annealing():
    changes = {(change.before, change.after): change for change in share_changes()}
    assert len(changes) == 27
    wide = {pair for pair, change in changes.items() if not change.within_3_percent}
    assert wide == {("25", "26"), ("26", "27")}
    assert changes["25", "26"].domain == "instruction-synthetic"
    assert changes["25", "26"].change == pytest.approx(0.227 - 0.087, abs=0.002)
