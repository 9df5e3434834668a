"""The page of a mixture of dialogues: its categories and pairs, and below them all that a cleaning run's page has."""

from collections.abc import Mapping
from typing import Any

from yulanmini.report.cleaning import sections
from yulanmini.report.page import filled
from yulanmini.report.units import compact, integer, percent


def instruct_page(summary: Mapping[str, Any]) -> str:
    """`report.html` of a mixture, from its summary (`data_recipes/instruct/summary.py`)."""
    counts = summary["counts"]
    words = (
        f"{integer(counts['dialogues'])} of {integer(counts['read'])} dialogues of {len(summary['sources'])} sources"
    )
    return filled(
        "instruct",
        title="Which dialogues a model is tuned on, and why the others are not",
        summary=f"{words} are in train.jsonl. Every other one is in filtered/dropped with its step and reason.",
        tiles=tiles(summary),
        categories=summary["of_categories"],
        of_sources=summary["of_sources"],
        pairs=summary["pairs"],
        **sections(summary),
    )


def tiles(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures at the top of the page."""
    counts, judge = summary["counts"], summary["judge"]
    share = percent(counts["dialogues"] / (counts["read"] or 1), 1)
    shown = [("Dialogues", _count(counts["dialogues"]), f"{share} of those read")]
    if "tokens" in counts:
        shown.append(("Tokens", _count(counts["tokens"]), "of what is said"))
    if judge:
        tokens = judge["prompt_tokens"] + judge["completion_tokens"]
        shown.append(("Judge's answers", _count(judge["answers"]), f"{_count(tokens)} tokens"))
    if "pairs" in counts:
        shown.append(("Pairs", _count(counts["pairs"]), f"{integer(counts['hard_prompts'])} hard prompts"))
    return [{"label": label, "value": value, "note": note, "absent": False} for label, value, note in shown]


def _count(number: int) -> str:
    return compact(number) if number >= 10_000 else integer(number)
