"""The plots of a card, PNG on white so that they read the same on a light and on a dark page. Numbers are those of the
repo's own files, looked up when the plot is drawn; matplotlib is imported only then."""

import io
import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from data_recipes.recipes.phases import is_branch, phase_key
from hub_cards.cards.evidence import Figures
from hub_cards.cards.mixes import DOMAINS, Mixes, domain_shares
from train.studies.plots import STYLE

HELDOUT, MIXTURE = "plots/heldout.png", "plots/mixture.png"
# Told apart by people who do not see red and green alike (Okabe and Ito), and legible on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5D4A9C", "#555555")
Plots = Mapping[str, Callable[[Path], None]]


def of_training(figures: Figures, phases: Mixes) -> Plots:
    """What can be drawn of a run."""
    heldout = f"{figures.run.pretrain}/heldout.jsonl"
    found: dict[str, Callable[[Path], None]] = {}
    if figures.has(heldout) and len({line["step"] for line in figures.value(heldout)}) > 2:
        tokens_per_step = figures.value(figures.run.pretrain_manifest, "/config").get("tokens_per_step")
        found[HELDOUT] = partial(_write, draw_heldout, figures.value(heldout), tokens_per_step)
    in_a_row = {name: file for name, file in phases.items() if not is_branch(name)}
    if len(in_a_row) > 1:
        shares = {
            domain: [figures.evaluate(place) for place in places]
            for domain, places in domain_shares(figures, in_a_row).items()
        }
        found[MIXTURE] = partial(_write, draw_mixture, [phase_key(name) for name in in_a_row], shares)
    return found


def draw_heldout(axis: Any, lines: list[dict[str, Any]], tokens_per_step: int | None) -> None:
    """Bits per byte of each held-out domain over the tokens trained on, with the ends of phases marked."""
    scale, unit = _unit(max(line["step"] for line in lines) * (tokens_per_step or 1))
    ends = dict.fromkeys(line["step"] for line in lines)
    for domain, colour in zip(dict.fromkeys(line["domain"] for line in lines), COLOURS * 9, strict=False):
        points = [(line["step"], line["bits_per_byte"]) for line in lines if line["domain"] == domain]
        places = [step * (tokens_per_step or 1) / scale for step, _ in points]
        axis.plot(
            places,
            [value for _, value in points],
            color=colour,
            label=DOMAINS.get(domain, domain),
            marker="o",
            markersize=2.5,
        )
    for step in ends:
        axis.axvline(step * (tokens_per_step or 1) / scale, color="#d8d8d8", linewidth=0.7, zorder=0)
    axis.set_xlabel(f"{unit}tokens trained on (a grey line: the end of a phase)" if tokens_per_step else "step")
    axis.set_ylabel("bits per byte, lower is better")
    axis.set_title("Text that it was not trained on")
    axis.legend(loc="upper right", ncols=2)


def draw_mixture(axis: Any, phases: list[str], shares: Mapping[str, list[float]]) -> None:
    """What each phase is made of, stacked."""
    below = [0.0] * len(phases)
    for (domain, parts), colour in zip(shares.items(), COLOURS * 9, strict=False):
        axis.bar(
            phases,
            [100 * part for part in parts],
            bottom=below,
            color=colour,
            label=DOMAINS.get(domain, domain),
            width=0.85,
        )
        below = [low + 100 * part for low, part in zip(below, parts, strict=True)]
    axis.set_xlabel("phase")
    axis.set_ylabel("% of the tokens")
    axis.set_title("What each phase is made of")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axis.grid(visible=False)


def _unit(tokens: float) -> tuple[float, str]:
    for size, name in ((1e12, "trillion "), (1e9, "billion "), (1e6, "million "), (1e3, "thousand ")):
        if tokens >= size:
            return size, name
    return 1.0, ""


def _write(draw: Callable[..., None], *arguments: Any) -> None:
    """Write a plot of what can be said in JSON to the path that is the last argument."""
    *values, path = arguments
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_png(draw, json.dumps(values)))


@lru_cache(maxsize=8)
def _png(draw: Callable[..., None], arguments: str) -> bytes:
    """A plot, drawn once for all cards that show the same."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(STYLE), io.BytesIO() as image:
        canvas = Canvas(figsize=(8, 3.6), dpi=150, facecolor="white", layout="constrained")
        draw(canvas.add_subplot(), *json.loads(arguments))
        canvas.savefig(image, format="png", metadata={"Software": None})
        return image.getvalue()
