"""The page of synthetic samples: verdicts, reasons, what the cleaning did, samples to look at."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from yulanmini.report.cleaning import columns
from yulanmini.report.funnel import funnel
from yulanmini.report.page import filled
from yulanmini.report.units import compact, integer, percent, significant


def synthesis_page(summary: Mapping[str, Any]) -> str:
    """`report.html` of samples that a model wrote, from their summary (`data_recipes/synthesis/summary.py`)."""
    config, verdicts, seeds = summary["config"], summary["verdicts"], summary["seeds"]
    words = f"{integer(verdicts['accepted'])} of {integer(seeds)} seeds gave an accepted sample"
    if summary["unchecked"]:
        words += f", {integer(summary['unchecked'])} of them unchecked"
    answers = summary["answers"]
    uncounted = f"; {integer(answers['uncounted'])} answers without a count" if answers["uncounted"] else ""
    shown = [
        ("Accepted", percent(verdicts["accepted"] / (seeds or 1), 1), f"{integer(verdicts['accepted'])} samples"),
        ("Training text", compact(summary["characters"]), "characters"),
        ("Answers", compact(answers["answers"]), f"{compact(answers['prompt_tokens'])} prompt tokens{uncounted}"),
        ("Answer tokens", compact(answers["completion_tokens"]), "as the server counts them"),
    ]
    if "cost" in summary:
        prices = summary["prices"]
        note = f"at {significant(prices['prompt'])} and {significant(prices['answer'])} for a million tokens"
        shown.append(("Cost", significant(summary["cost"]), note))
    examples = [
        (f"{verdict}: {reason}" if reason else verdict, list(group))
        for (verdict, reason), group in groupby(summary["examples"], key=lambda one: (one["verdict"], one["reason"]))
    ]
    cleaning = summary["cleaning"]
    reasons = [(row["reason"], row["verdict"], row["seeds"]) for row in summary["reasons"]]
    return filled(
        "synthesis",
        title=f"Synthetic samples: {summary['kind']}",
        report={"run": config["model"], "notes": []},
        summary=f"{words}. Every seed is a row of samples/, with its verdict and reason.",
        tiles=_tiles(shown),
        sources=[_shares(row, row["source"]) for row in summary["sources"]],
        tables=[
            _table("reasons", "Reasons", "Why seeds were rejected or failed.", ["Reason", "Verdict", "Seeds"], reasons)
        ],
        funnel=funnel(cleaning) if cleaning else None,
        columns=columns(cleaning) if cleaning else None,
        examples=examples,
        config=config,
    )


def programs_page(summary: Mapping[str, Any]) -> str:
    """`report.html` of computed problems, from their summary (`data_recipes/synthesis/programs/run.py`)."""
    problems = summary["samples"]
    tables = [
        _table(name, name.capitalize(), f"Problems by {name.removesuffix('s')}.", [name.capitalize(), "Problems"],
               list(summary[name].items()))
        for name in ("levels", "kinds", "languages")
    ]  # fmt: skip
    return filled(
        "synthesis",
        title=f"Synthetic samples: {summary['kind']}",
        report={"run": summary["kind"], "notes": []},
        summary=f"{integer(problems)} problems, none twice, with worked steps and computed answers.",
        tiles=_tiles(
            [
                ("Problems", compact(problems), f"of {integer(len(summary['kinds']))} kinds"),
                ("Training text", compact(summary["characters"]), "characters"),
            ]
        ),
        sources=[_shares(summary["verdicts"], summary["kind"])],
        tables=tables,
        funnel=None,
        columns=None,
        examples=[],
        config={name: summary[name] for name in ("kind", "samples")},
    )


def _shares(verdicts: Mapping[str, Any], source: str) -> dict[str, Any]:
    counts = {verdict: verdicts[verdict] for verdict in ("accepted", "rejected", "failed")}
    seeds = sum(counts.values())
    return {"source": source, "seeds": seeds, "share": counts["accepted"] / (seeds or 1), **counts}


def _tiles(shown: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    return [{"label": label, "value": value, "note": note, "absent": False} for label, value, note in shown]


def _table(identity: str, title: str, lead: str, headers: list[str], rows: list[Any]) -> dict[str, Any]:
    return {"identity": identity, "title": title, "lead": lead, "headers": headers, "rows": rows}
