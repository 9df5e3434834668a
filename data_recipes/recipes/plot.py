"""The picture "data distribution for every phase": one stacked bar a mix, by domain or by family of sources."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError, nearest
from data_recipes.recipes.curriculum import domain_tokens
from data_recipes.recipes.phases import ANNEALING_PHASE
from data_recipes.recipes.recipe import DOMAINS, Recipe, Subset, published_recipes

WAYS = ("domain", "source")
FORMATS = (".svg", ".png")

DOMAIN_COLOURS = {
    "web-en": "#4878a8",
    "web-zh": "#84b0d4",
    "code": "#5b9a68",
    "math": "#e0a13c",
    "books-papers-encyclopedia": "#8c74a8",
    "instruction-synthetic": "#cc5f52",
}
# Families in the order of the bars, each under its domain; the first whose prefix fits a subset's source wins.
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "FineWeb-Edu": ("web-en", ("fineweb-edu",)),
    "DCLM": ("web-en", ("dclm-baseline",)),
    "news, forums": ("web-en", ("",)),
    "Chinese FineWeb-Edu": ("web-zh", ("chinese-fineweb-edu",)),
    "other Chinese web": ("web-zh", ("",)),
    "the-stack-v2 Python": ("code", ("stack-v2-python",)),
    "the-stack-v2 notebooks": ("code", ("stack-v2-jupyter",)),
    "the-stack-v2 others": ("code", ("stack-v2",)),
    "StarCoder, python-edu": ("code", ("starcoder", "python-edu")),
    "MNBVC code": ("code", ("mnbvc",)),
    "OpenCoder, LongWanjuan": ("code", ("",)),
    "Proof-Pile-2, AutoMathText": ("math", ("proof-pile-2", "automathtext")),
    "InfiMM-WebMath": ("math", ("infimm",)),
    "other math pages": ("math", ("",)),
    "books": ("books-papers-encyclopedia", ("open-textbook", "project-gutenberg", "loc-", "cbook", "bestsellers")),
    "textbooks, exams (zh)": ("books-papers-encyclopedia", ("textbooks-zh", "exam-")),
    "papers": ("books-papers-encyclopedia", ("pes2o", "arxiv")),
    "encyclopedias": ("books-papers-encyclopedia", ("",)),
    "Cosmopedia": ("instruction-synthetic", ("cosmopedia",)),
    "own synthetic": ("instruction-synthetic", ("own-",)),
    "OpenCoder instructions": ("instruction-synthetic", ("opencoder",)),
    "other instructions": ("instruction-synthetic", ("",)),
}


def check_destination(out: Path, by: str) -> None:
    """`DataError` when the picture cannot be drawn there: unknown way, ending, folder missing or not writable."""
    if by not in WAYS:
        raise DataError(f"--by {by}: not a way to group.{nearest(by, WAYS)}")
    if out.suffix.lower() not in FORMATS:
        raise DataError(f"{out}: ends in '{out.suffix}', expected {' or '.join(FORMATS)}.")
    if not out.parent.is_dir():
        raise DataError(f"{out.parent}: no such folder. Make it first.")
    if out.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise DataError(f"{out}: cannot be written.")


def family_of(subset: Subset) -> str:
    """The family of `FAMILIES` that a published subset belongs to."""
    for family, (domain, prefixes) in FAMILIES.items():
        if domain == subset.domain and subset.source_name.startswith(prefixes):
            return family
    raise DataError(f"subset '{subset.name}': of no domain, so it cannot be drawn.")


def plot_curriculum(out: Path, *, by: str = "domain", recipes: Sequence[Recipe] | None = None) -> None:
    """Draw the mixes (default: the 28 published ones) as stacked bars of B tokens; SVG or PNG by the ending."""
    check_destination(out, by)
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    recipes = list(recipes if recipes is not None else published_recipes())
    # Text stays text in SVG, and the file is the same on every run.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "curriculum", "font.size": 10}):
        figure = Figure(figsize=(15, 7.6))
        FigureCanvasAgg(figure)
        _draw(figure.subplots(), recipes, by)
        figure.tight_layout()
        metadata = {"Date": None} if out.suffix.lower() == ".svg" else {}
        figure.savefig(out, dpi=110, metadata=metadata)


def _draw(axes: Any, recipes: Sequence[Recipe], by: str) -> None:
    layers = _layers(recipes, by)
    positions = _positions(recipes)
    bottoms = [0.0] * len(recipes)
    totals = [recipe.tokens / 1e9 for recipe in recipes]
    for name, (colour, heights) in layers.items():
        axes.bar(positions, heights, 0.84, bottom=bottoms, color=colour, label=name, edgecolor="white", linewidth=0.4)
        if by == "domain":
            for x, height, bottom, total in zip(positions, heights, bottoms, totals, strict=True):
                if height / total >= 0.02:
                    share = f"{100 * height / total:.0f}"
                    axes.text(x, bottom + height / 2, share, ha="center", va="center", fontsize=7.5, color="white")
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    for x, total in zip(positions, totals, strict=True):
        axes.text(x, total + 0.35, f"{total:.1f}", ha="center", va="bottom", fontsize=7.5, color="#444444")
    _mark_stages(axes, recipes, positions, top=max(totals))
    axes.set_xticks(positions, [_label(recipe) for recipe in recipes])
    axes.set_xlim(positions[0] - 0.7, positions[-1] + 0.7)
    axes.set_xlabel("phase")
    axes.set_ylabel("tokens (billions)")
    axes.set_title(
        "Data distribution of every phase" + (" (numbers in the bars: % of the mix)" if by == "domain" else "")
    )
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    # Bars are read from the top down, and so is the legend beside them.
    axes.legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False)


def _layers(recipes: Sequence[Recipe], by: str) -> dict[str, tuple[object, list[float]]]:
    """Name of a layer, bottom first, to its colour and its height (B tokens) in each bar."""
    if by == "domain":
        sums = [domain_tokens(recipe) for recipe in recipes]
        return {name: (DOMAIN_COLOURS[name], [item[name] / 1e9 for item in sums]) for name in DOMAINS}
    heights = {family: [0.0] * len(recipes) for family in FAMILIES}
    for index, recipe in enumerate(recipes):
        for subset in recipe.subsets:
            heights[family_of(subset)][index] += subset.tokens / 1e9
    shade = _shades()
    return {family: (shade(family), values) for family, values in heights.items()}


def _shades() -> Callable[[str], tuple[float, float, float]]:
    """Families of a domain get the domain's colour, lighter from one to the next."""
    from matplotlib.colors import to_rgb

    def shade(family: str) -> tuple[float, float, float]:
        domain = FAMILIES[family][0]
        siblings = [name for name, (other, _) in FAMILIES.items() if other == domain]
        lightness = 0.72 * siblings.index(family) / len(siblings)
        red, green, blue = (channel + (1 - channel) * lightness for channel in to_rgb(DOMAIN_COLOURS[domain]))
        return red, green, blue

    return shade


def _positions(recipes: Sequence[Recipe]) -> list[float]:
    """Where the bars stand: one apart, with a gap before annealing and between the variants of phase 26."""
    positions, x = [], 0.0
    for index, recipe in enumerate(recipes):
        if index and recipe.phase == ANNEALING_PHASE:
            x += 0.5
        positions.append(x)
        x += 1
    return positions


def _label(recipe: Recipe) -> str:
    if recipe.phase is None:
        return recipe.name
    if recipe.phase < ANNEALING_PHASE:
        return str(recipe.phase)
    return f"{recipe.phase}\n{'4K' if recipe.variant else '28K'}"


def _mark_stages(axes: Any, recipes: Sequence[Recipe], positions: list[float], *, top: float) -> None:
    """Brackets above the bars: stable stage, annealing in 4K, annealing in 28K."""
    stages: dict[str, list[float]] = {}
    for recipe, x in zip(recipes, positions, strict=True):
        if recipe.phase is None:
            continue
        if recipe.phase < ANNEALING_PHASE:
            stage = "warm-up (10B tokens) and stable learning rate, 4K context"
        else:
            stage = "annealing\n4K" if recipe.variant else "annealing\n28K"
        stages.setdefault(stage, []).append(x)
    for stage, xs in stages.items():
        y = top + 2.2
        axes.plot([xs[0] - 0.4, xs[-1] + 0.4], [y, y], color="#666666", linewidth=1)
        axes.text((xs[0] + xs[-1]) / 2, y + 0.3, stage, ha="center", va="bottom", fontsize=8.5, color="#444444")
    axes.set_ylim(0, top + 5)
