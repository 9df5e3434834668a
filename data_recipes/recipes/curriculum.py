"""The 28 published mixes as one curriculum: totals, steps, and checks that the files agree with the published figures.

The published figures are in `published_totals.yaml`; nothing here is fitted to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data_recipes.recipes.recipe import DOMAINS, Recipe, published_recipes
from data_recipes.recipes.yaml_schema import read_yaml

TOTALS_FILE = Path(__file__).with_name("published_totals.yaml")
# Published sums are rounded to 0.01B tokens; half of that, and the float noise of the released files.
ROUNDING_BTOKENS = 0.0051
STEP_TOLERANCE = 0.005
# Report, section 4: between neighbouring phases no domain's share moves by more than 3 % of the mix.
SHARE_CHANGE_RULE = 0.03


@cache
def published_totals() -> dict[str, Any]:
    """The content of `published_totals.yaml`."""
    return read_yaml(TOTALS_FILE)


def domain_tokens(recipe: Recipe) -> dict[str, int]:
    """Tokens of each of the six domains, in their order, zeros included."""
    sums: dict[str, int] = dict.fromkeys(DOMAINS, 0)
    for subset in recipe.subsets:
        if subset.domain is not None:
            sums[subset.domain] += subset.tokens
    return sums


def predicted_steps(recipes: Sequence[Recipe] | None = None) -> dict[int, float]:
    """Optimiser step at the end of each phase 1..27: all tokens so far over tokens per step; 26 in its 28K variant."""
    steps, tokens = {}, 0
    for recipe in recipes if recipes is not None else published_recipes():
        if recipe.phase is not None and recipe.variant is None:
            tokens += recipe.tokens
            steps[recipe.phase] = tokens / published_totals()["tokens_per_step"]
    return steps


@dataclass(frozen=True)
class MixCheck:
    """One mix against the published figures; `problems` is empty when all agree."""

    phase: str
    subsets: int
    tokens: int
    published_btokens: float
    largest_difference_btokens: float  # over the total, the six domains and the flagged instruction data
    problems: tuple[str, ...]
    ok: bool


@dataclass(frozen=True)
class StepCheck:
    """The predicted and the published end of a phase."""

    phase: int
    predicted: float
    published: int
    relative_error: float
    ok: bool


@dataclass(frozen=True)
class ShareChange:
    """The domain whose share moves most between two neighbouring mixes, and by how much of the mix (signed)."""

    before: str
    after: str
    domain: str
    change: float
    within_3_percent: bool


def check_mix(recipe: Recipe) -> MixCheck:
    """A published mix against its number of entries, its exact tokens, and the rounded sums by domain."""
    published = published_totals()["phases"][recipe.key]
    entries = len(recipe.subsets) + len(recipe.unselected)
    problems = []
    if entries != published["subsets"]:
        problems.append(f"{entries} subsets, published {published['subsets']}")
    if recipe.tokens != published["tokens"]:
        problems.append(f"{recipe.tokens:,} tokens, published {published['tokens']:,}")
    sums: dict[str, int] = {"total": recipe.tokens, **domain_tokens(recipe)}
    sums["sft"] = sum(subset.tokens for subset in recipe.subsets if subset.sft)
    differences = {name: tokens / 1e9 - published[name] for name, tokens in sums.items()}
    for name, difference in differences.items():
        if abs(difference) > ROUNDING_BTOKENS:
            problems.append(f"{name} {sums[name] / 1e9:.3f}B, published {published[name]:.2f}B")
    return MixCheck(
        phase=recipe.key,
        subsets=entries,
        tokens=recipe.tokens,
        published_btokens=published["total"],
        largest_difference_btokens=round(max(map(abs, differences.values())), 6),
        problems=tuple(problems),
        ok=not problems,
    )


def check_steps(recipes: Sequence[Recipe] | None = None) -> list[StepCheck]:
    """Predicted against published, for every phase whose end is published."""
    predicted = predicted_steps(recipes)
    published: dict[int, int] = published_totals()["end_of_phase_steps"]
    checks = []
    for phase, step in published.items():
        error = predicted[phase] / step - 1
        checks.append(StepCheck(phase, round(predicted[phase], 1), step, round(error, 6), abs(error) <= STEP_TOLERANCE))
    return checks


def share_changes(recipes: Sequence[Recipe] | None = None) -> list[ShareChange]:
    """The largest change of a domain's share at each boundary; both variants of 26 come after 25."""
    mixes = {recipe.key: recipe for recipe in (recipes if recipes is not None else published_recipes())}
    changes = []
    for key, recipe in mixes.items():
        if recipe.phase is None or str(recipe.phase - 1) not in mixes:
            continue
        before = mixes[str(recipe.phase - 1)]
        old, new = domain_tokens(before), domain_tokens(recipe)
        moved = {name: new[name] / recipe.tokens - old[name] / before.tokens for name in DOMAINS}
        domain = max(moved, key=lambda name: abs(moved[name]))
        within = abs(moved[domain]) <= SHARE_CHANGE_RULE
        changes.append(ShareChange(before.key, key, domain, round(moved[domain], 5), within))
    return changes


def as_json(recipe: Recipe) -> dict[str, Any]:
    """What `recipe show --json` prints; subsets that a published mix lists without drawing from them have 0 tokens."""
    subsets = [
        {"name": item.name, "tokens": item.tokens, "domain": item.domain, "source": item.source_name}
        for item in recipe.subsets
    ]
    subsets += [
        {"name": item.name, "tokens": 0, "domain": item.domain, "source": item.source} for item in recipe.unselected
    ]
    shown: dict[str, Any] = {
        "phase": recipe.phase,
        "context_length": recipe.context_length,
        "tokens": recipe.tokens,
        "subsets": subsets,
    }
    if recipe.phase is None:
        shown["name"] = recipe.name
    if recipe.variant is not None:
        shown["variant"] = recipe.variant
    return shown
