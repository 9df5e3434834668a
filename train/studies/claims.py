"""How well the results of the studies bear out the report's claims: one rule for all, so that no word is a matter of
taste.

A claim is split into comparisons (a width, a length of tail, a stage). Each agrees, is against it, or is not told
apart.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from train.studies.intervals import Interval

# From as many seeds on (or runs, where each run is one case) an interval is taken at its word.
ENOUGH = 5
# What is not told apart is no agreement. A tail suffices where a longer one brings less than this share of what it
# brings itself, and a rate stays where it moves by less than this factor: their whole intervals, that is.
SUFFICIENT, STAYS = 0.1, 4 / 3
AGREES, AGAINST, NEITHER = "agrees", "against", "not told apart"


@dataclass(frozen=True)
class Evidence:
    """What the comparisons of a claim came to, and how many seeds or runs each is from."""

    verdicts: Sequence[str]
    cases: int

    @property
    def agreement(self) -> str:
        """One phrase for all comparisons together."""
        agree, against = self.verdicts.count(AGREES), self.verdicts.count(AGAINST)
        if agree and against:
            return "mixed"
        if not agree and not against:
            return "not told apart"
        word = "agrees" if agree else "does not agree"
        return word if agree + against == len(self.verdicts) else f"{word}, in part"

    @property
    def strength(self) -> str:
        """`none` where nothing is told apart; `weak` from fewer than `ENOUGH` cases, where comparisons contradict each
        other, or where half or fewer are told apart; `strong` where all are, in one direction; else `moderate`."""
        agree, against = self.verdicts.count(AGREES), self.verdicts.count(AGAINST)
        told_apart = agree + against
        if not told_apart:
            return "none"
        if self.cases < ENOUGH or (agree and against) or 2 * told_apart <= len(self.verdicts):
            return "weak"
        return "strong" if told_apart == len(self.verdicts) else "moderate"

    def as_json(self) -> dict[str, Any]:
        return {
            "agreement": self.agreement,
            "strength": self.strength,
            "agree": self.verdicts.count(AGREES),
            "against": self.verdicts.count(AGAINST),
            "of": len(self.verdicts),
            "cases": self.cases,
        }


def claims(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Evidence for each claim by its name, as the summary shows it; of those whose studies have a result."""
    found: dict[str, dict[str, Any]] = {}
    for study, evidence_of in STUDIES.items():
        if study in results:
            found |= {name: evidence.as_json() for name, evidence in evidence_of(results[study]).items()}
    return found


def _early_warning(result: Mapping[str, Any]) -> dict[str, Evidence]:
    """More often than not, the rule warned: before the loss left its band, and, of an explosion that this did not show,
    before the loss fell behind that of a calm training."""
    kinds = ("left_band", "fell_behind")
    return {
        name: Evidence(
            [_beyond(result["judged"][rule][kind], 0.5) for kind in kinds], result["judged"][rule]["left_band"]["count"]
        )
        for name, rule in (("warned", "chosen"), ("variance_warns", "variance_growth"), ("gradient_warns", "grad_norm"))
    }


def _annealing(result: Mapping[str, Any]) -> dict[str, Evidence]:
    settings, seeds = result["settings"], result["settings"]["seeds"]
    tail, target = str(settings["published"]["tail"]), settings["target"]
    in_tail = result["in_the_tail_over_spread"]
    rates, best = result["rates"].values(), settings["published"]["shape"]
    tails = [of for rate in rates for of in rate["shapes"].values()]
    shapes = [of[shape]["loss"] for of in tails for shape in ("linear", "cosine") if shape in of]
    brought = [gain[best]["loss"] for rate in rates for gain in rate["gains"].values()]
    longer = [
        _suffices(found["loss"], rate["gains"][tail][best]["loss"]["value"])
        for rate in rates
        for name, found in rate["longer"].items()
        if name.endswith(f" after {tail}")
    ]
    return {
        "annealing": Evidence(_signs(brought, lower=AGREES), seeds),
        "shape": Evidence(_signs(shapes, lower=AGAINST), seeds),
        "length": Evidence(longer, seeds),
        "targeted": Evidence(
            [*_signs([in_tail[target]], lower=AGREES), *_signs([in_tail["solved"]], lower=AGAINST)], seeds
        ),
    }


def _suffices(longer: Mapping[str, Any], brought: float) -> str:
    """Whether what a longer tail changes is too little to matter, beside what the tail itself brought (below 0)."""
    if Interval(**longer).verdict == "below":
        return AGAINST
    return AGREES if brought < 0 and longer["low"] is not None and longer["low"] > SUFFICIENT * brought else NEITHER


def _averaging(result: Mapping[str, Any]) -> dict[str, Evidence]:
    counts, seeds = map(str, result["settings"]["counts"]), result["settings"]["seeds"]
    changes = [result["series"]["annealed"][count]["against_last"]["loss"] for count in counts]
    return {"averaging": Evidence(_signs(changes, lower=AGREES), seeds)}


def _parametrizations(result: Mapping[str, Any]) -> dict[str, Evidence]:
    widths, seeds = result["widths"].values(), result["settings"]["judging"]
    found = {
        f"learns_{column.replace('-', '_')}": Evidence(
            _signs((width["equal_steps"]["heldout"]["added"][column] for width in widths), lower=AGREES), seeds
        )
        for column in ("cerebras-gpt", "depth-mup", "yulanmini")
    }
    times = [width["time_with_scales"] for width in widths]
    return found | {"wesar_cost": Evidence([_beyond(time, 1.0) for time in times], times[0]["count"])}


def _lr_transfer(result: Mapping[str, Any]) -> dict[str, Evidence]:
    """Does the best rate of the widest model differ from the narrowest's?"""
    low, high = result["columns"]["yulanmini"]["widest_over_narrowest_interval"]
    moves = AGAINST if low > 1 or high < 1 else NEITHER
    return {"rate_stays": Evidence([AGREES if low > 1 / STAYS and high < STAYS else moves], result["seeds"])}


def _stability(result: Mapping[str, Any]) -> dict[str, Evidence]:
    """Each measure of Figure 6 beside the row that it is added to: more calm runs, or fewer?"""
    added = [("QK-LayerNorm", "baseline"), ("weight decay", "baseline"), ("+ muP", "weight decay")]
    added += [("+ depth muP", "+ muP"), ("+ WeSaR", "+ depth muP")]
    calm = {row: calm_runs(found) for row, found in result["rows"].items()}
    logits = [
        _order(_logit(result, "QK-LayerNorm", rate), _logit(result, "baseline", rate))
        for rate in result["rows"]["baseline"]["runs"]
    ]
    return {
        "calmer": Evidence([_order(calm[before], calm[row]) for row, before in added], result["seeds"]),
        "qk_logits": Evidence(logits, result["seeds"]),
    }


def calm_runs(row: Mapping[str, Any]) -> int:
    """Runs of a row of the stability study that neither diverged nor exploded."""
    return sum(run["state"] in ("stable", "spiking") for runs in row["runs"].values() for run in runs)


def _logit(result: Mapping[str, Any], row: str, rate: str) -> float:
    return fmean(run["last_attention_logit"] for run in result["rows"][row]["runs"][rate])


def _instruct_study(result: Mapping[str, Any]) -> dict[str, Evidence]:
    """Each stage of tuning raises the share of right answers of the easiest level."""
    changes = [stage["greedy"] for stage in result["levels"]["1"]["stages"].values()]
    verdicts = [AGREES if low > 0 else AGAINST if high < 0 else NEITHER for _, low, high in changes]
    return {"stages": Evidence(verdicts, len(result["seeds"]))}


def _signs(changes: Iterable[Mapping[str, Any]], *, lower: str) -> list[str]:
    """`lower` where a change is below 0, the other word where it is above."""
    words = {"below": lower, "above": AGAINST if lower == AGREES else AGREES, "not told apart": NEITHER}
    return [words[Interval(**change).verdict] if change["low"] is not None else NEITHER for change in changes]


def _beyond(interval: Mapping[str, Any], value: float) -> str:
    if interval["value"] is None:
        return NEITHER
    return AGREES if interval["low"] > value else AGAINST if interval["high"] < value else NEITHER


def _order(first: float, second: float) -> str:
    """Whether the second is larger."""
    return AGREES if second > first else AGAINST if second < first else NEITHER


STUDIES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Evidence]]] = {
    "early-warning": _early_warning,
    "annealing": _annealing,
    "averaging": _averaging,
    "parametrizations": _parametrizations,
    "lr-transfer": _lr_transfer,
    "stability": _stability,
    "instruct_study": _instruct_study,
}
