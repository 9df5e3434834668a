"""The words of the summary follow the figures: turned round, weakened or made of few seeds, they change."""

import json
from pathlib import Path
from typing import Any

import pytest

from train.studies.claims import AGAINST, AGREES, NEITHER, Evidence, claims
from train.studies.pages import SUMMARY, docs_pages

DOCS = Path(__file__).parents[3] / "docs"
BELOW = {"value": -0.1, "low": -0.2, "high": -0.05, "count": 5}
ABOVE = {"value": 0.1, "low": 0.05, "high": 0.2, "count": 5}
UNSURE = {"value": -0.1, "low": -0.2, "high": 0.05, "count": 5}


@pytest.mark.parametrize(
    ("verdicts", "cases", "agreement", "strength"),
    [
        ([AGREES] * 3, 5, "agrees", "strong"),
        ([AGREES] * 3, 4, "agrees", "weak"),
        ([AGREES, AGREES, NEITHER], 5, "agrees, in part", "moderate"),
        ([AGREES, NEITHER], 8, "agrees, in part", "weak"),
        ([AGREES, AGREES, AGREES, AGAINST], 8, "mixed", "weak"),
        ([AGAINST] * 2, 8, "does not agree", "strong"),
        ([NEITHER] * 3, 8, "not told apart", "none"),
    ],
)
def test_strength_is_given_by_one_rule(verdicts: list[str], cases: int, agreement: str, strength: str) -> None:
    evidence = Evidence(verdicts, cases)
    assert (evidence.agreement, evidence.strength) == (agreement, strength)


def annealing(**changes: Any) -> dict[str, Any]:
    """As much of that study's result as claims are judged by; `changes` are of its rate, or of the whole."""
    settings = {"seeds": 5, "published": {"shape": "1-sqrt", "tail": 8}, "target": "instructions"}
    rate = {
        "gains": {"8": {"1-sqrt": {"loss": BELOW}}},
        "shapes": {"8": {"linear": {"loss": ABOVE}, "cosine": {"loss": ABOVE}, "exponential": {"loss": BELOW}}},
        "longer": {"8 after 4": {"loss": BELOW}, "16 after 8": {"loss": UNSURE}},
    }
    in_tail = {"instructions": BELOW, "loss": ABOVE, "solved": UNSURE} | changes.pop("in_tail", {})
    lower = changes.pop("lower", changes)
    rates = {"0.01": rate | changes, "0.0025": rate | lower}
    return {"settings": settings, "rates": rates, "in_the_tail_over_spread": in_tail}


def agreement_of(name: str, **changes: Any) -> str:
    return claims({"annealing": annealing(**changes)})[name]["agreement"]


def test_claims_about_annealing_turn_round_with_the_signs() -> None:
    assert agreement_of("shape") == "agrees"
    assert agreement_of("shape", shapes={"8": {"linear": {"loss": BELOW}, "cosine": {"loss": UNSURE}}}) == (
        "does not agree, in part"
    )
    assert agreement_of("length") == "not told apart", "absence of evidence is none"
    for value, agreement in ((-0.001, "agrees"), (-0.1, "does not agree")):
        longer = {"value": value, "low": value - 0.002, "high": value + 0.002, "count": 5}
        assert (
            agreement_of("length", longer={"8 after 4": {"loss": ABOVE}, "16 after 8": {"loss": longer}}) == agreement
        )
    assert agreement_of("targeted") == "agrees, in part"
    assert agreement_of("targeted", in_tail={"solved": ABOVE}) == "agrees"
    assert agreement_of("targeted", in_tail={"solved": BELOW}) == "mixed", "a lower loss and fewer problems solved"
    assert agreement_of("targeted", in_tail={"instructions": UNSURE}) == "not told apart"
    worse = {"8": {"1-sqrt": {"loss": ABOVE}}}
    assert agreement_of("annealing", gains=worse) == "does not agree"
    assert agreement_of("annealing", lower={"gains": worse}) == "mixed", "each rate is a comparison of its own"


def test_a_warning_counts_as_evidence_only_where_the_interval_is_above_one_half() -> None:
    def result(low: float, high: float, other: dict[str, Any] | None = None) -> dict[str, Any]:
        share = {"value": (low + high) / 2, "low": low, "high": high, "count": 24}
        return {
            "judged": {
                rule: {"left_band": share, "fell_behind": other or share}
                for rule in ("chosen", "variance_growth", "grad_norm")
            }
        }

    for low, high, agreement in ((0.7, 0.95, "agrees"), (0.4, 0.8, "not told apart"), (0.1, 0.3, "does not agree")):
        assert claims({"early-warning": result(low, high)})["warned"]["agreement"] == agreement
    stayed = {"value": 1.0, "low": 0.8, "high": 1.0, "count": 16}
    mixed = claims({"early-warning": result(0.1, 0.3, stayed)})["warned"]
    assert (mixed["agreement"], mixed["strength"]) == ("mixed", "weak")


def test_the_old_studies_are_judged_by_their_committed_results() -> None:
    results = {
        name: json.loads((DOCS / "results" / f"{name}.json").read_text()) for name in ("stability", "lr-transfer")
    }
    found = claims(results)
    assert found["calmer"]["strength"] == "weak", "two seeds"
    assert found["rate_stays"]["against"] == 1
    results["lr-transfer"]["columns"]["yulanmini"]["widest_over_narrowest_interval"] = [0.8, 1.2]
    wide = json.loads(json.dumps(results))
    wide["lr-transfer"]["columns"]["yulanmini"]["widest_over_narrowest_interval"] = [0.5, 1.9]
    assert claims(wide)["rate_stays"]["strength"] == "none"
    for run in (run for runs in results["stability"]["rows"]["baseline"]["runs"].values() for run in runs):
        run["state"] = "stable"
    changed = claims(results)
    assert changed["rate_stays"]["agree"] == 1
    assert changed["calmer"]["against"] == 2


def test_the_summary_stands_without_results_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    page = docs_pages(tmp_path)[tmp_path / "studies" / f"{SUMMARY}.md"]
    assert "Claims that nothing here speaks to" in page
    assert "Figure 6 |" not in page
