"""Subsets whose source cannot be read here: refuse, leave out, or give their tokens to their own domain."""

from collections.abc import Callable
from typing import Any

from data_recipes.errors import DataError
from data_recipes.packing.request import Missing
from data_recipes.reading.files import SourceMissing
from data_recipes.recipes.recipe import Recipe, Subset
from data_recipes.recipes.source import Source, resolve_source
from data_recipes.tokens.store import TokenStore


def readable_subsets(
    recipe: Recipe, store_of: Callable[[Source], TokenStore], missing: Missing
) -> tuple[list[Subset], list[TokenStore], list[dict[str, Any]]]:
    """The subsets that can be built, the store of each, and what was done about the others, by `missing`."""
    subsets: list[Subset] = []
    stores: list[TokenStore] = []
    absent: list[tuple[Subset, SourceMissing]] = []
    for subset in recipe.subsets:
        try:
            stores.append(store_of(resolve_source(subset.source, where=subset.name)))
            subsets.append(subset)
        except SourceMissing as error:
            absent.append((subset, error))
    if absent and (missing == "fail" or not subsets):
        raise DataError(_refusal(recipe, absent, nothing_left=not subsets))
    if missing == "substitute":
        subsets = _substituted(recipe, subsets, absent)
    action = "skipped" if missing == "skip" else "substituted"
    left_out = [
        {
            "subset": subset.name,
            "domain": subset.domain,
            "tokens": subset.tokens,
            "action": action,
            "reason": error.public,
        }
        for subset, error in absent
    ]
    return subsets, stores, left_out


def _refusal(recipe: Recipe, absent: list[tuple[Subset, SourceMissing]], *, nothing_left: bool) -> str:
    share = sum(subset.tokens for subset, _ in absent) / recipe.tokens
    lines = [f"  {subset.name}  {subset.tokens:,} tokens  {reason}" for subset, reason in absent[:20]]
    if len(absent) > 20:
        lines.append(f"  ... and {len(absent) - 20} more")
    advice = (
        "Nothing is left to build. Make some of them readable, or give your own text with --corpus."
        if nothing_left
        else "Make them readable, or build with --missing skip (leave them out) or --missing substitute "
        "(more of the same domain)."
    )
    return (
        f"{recipe.name}: {len(absent)} of {len(recipe.subsets)} subsets ({share:.1%} of the tokens) cannot be read:\n"
        + "\n".join([*lines, advice])
    )


def _substituted(recipe: Recipe, subsets: list[Subset], absent: list[tuple[Subset, SourceMissing]]) -> list[Subset]:
    """Share the absent tokens of each domain among its readable subsets, in proportion."""
    result = list(subsets)
    for domain in dict.fromkeys(subset.domain for subset, _ in absent):
        unmet = sum(subset.tokens for subset, _ in absent if subset.domain == domain)
        places = [index for index, subset in enumerate(subsets) if subset.domain == domain]
        if not places:
            raise DataError(
                f"{recipe.name}: no readable subset of domain '{domain}' to substitute for the {unmet:,} tokens "
                "that are missing there. Build with --missing skip, or add a source of that domain."
            )
        weights = [subsets[index].tokens for index in places]
        shares = [unmet * weight // sum(weights) for weight in weights]
        shares[0] += unmet - sum(shares)
        for index, share in zip(places, shares, strict=True):
            result[index] = subsets[index].model_copy(update={"tokens": subsets[index].tokens + share})
    return result
