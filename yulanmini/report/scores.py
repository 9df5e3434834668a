"""What the page shows of scores: tables, what tuning costs, samples, and how far they differ from run to run."""

import json
import math
from importlib.resources import files
from typing import Any

from data_recipes.recipes.phases import is_annealing
from eval.demonstration import kind_of
from eval.scores import SEPARATOR, is_share, rows_by_measure
from yulanmini.report import units
from yulanmini.report.collect import in_order

SAMPLES = 4


def score_tables(scored: dict[str, Any] | None, measured: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A table for each measure of each task, base beside instruct: the whole groups, and below them their parts.

    A part has a column for each name that its own parts have, such as the languages; best ones first. Parts of which
    neither model has anything right are only named (`none_right`). Held-out text that `gains` shows is left out.
    """
    shown = []
    for entries in rows_by_measure([(scored or {}).get(model) for model in ("base", "instruct")]):
        if tuned_heldout(scored, measured) and entries[0]["task"] == "heldout":
            continue
        share, rows = is_share(entries[0]), {}
        for entry in entries:
            whole, _, name = entry["group"].rpartition(SEPARATOR)
            base, instruct = entry["values"]
            row = entry | {"whole": whole, "name": name, "base": base, "instruct": instruct, "parts": {}}
            row["interval"] = interval(instruct, entry["count"]) if share and instruct is not None else None
            rows[entry["group"]] = row
            if whole in rows:
                rows[whole]["parts"][name] = row
        parts = [row for row in rows.values() if row["whole"] and SEPARATOR not in row["whole"]]
        none_right = [row for row in parts if share and not row["base"] and not row["instruct"]]
        parts = [row for row in parts if row not in none_right]
        shown.append(
            entries[0]
            | {
                "share": share,
                "chances": any(row["chance"] is not None for row in rows.values()),
                "rows": [row for row in rows.values() if not row["whole"]],
                "parts": sorted(parts, key=lambda row: (row["whole"], -(row["instruct"] or 0))),
                "none_right": [f"{row['name']} ({row['whole']})" for row in none_right],
                "below_chance": [
                    row["name"] for row in rows.values() if row not in none_right and is_below_chance(row)
                ],
                "columns": sorted({name for row in parts for name in row["parts"]}),
            }
        )
    return shown


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: how far the number of problems leaves it open."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def is_below_chance(row: dict[str, Any]) -> bool:
    """Whether even the upper end of the instruct model's interval is below what guessing in the right form gives."""
    measured = row["interval"] and row["chance"] is not None and SEPARATOR not in row["whole"]
    return bool(measured) and row["interval"][1] < row["chance"]


def gains(measured: dict[str, Any] | None, scored: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """By domain: bits per byte before training, before annealing, at the end, and after tuning; and the changes."""
    if not measured:
        return []
    tuned = tuned_heldout(scored, measured)
    stable = [at for at, phase in enumerate(measured["phase"]) if not is_annealing(phase or "")]
    rows = []
    for domain in in_order(measured["domains"]):
        values = measured["domains"][domain]["bits_per_byte"]
        before, last = values[stable[-1]] if stable else None, values[-1]
        annealed = bool(before) and last is not None and stable[-1] < len(values) - 1
        change = units.change(last / before - 1) if annealed else None
        after = tuned.get(domain)
        cost = units.change(after / last - 1) if after is not None and last else None
        row = {"domain": domain, "first": values[0], "before": before, "last": last, "change": change}
        rows.append(row | {"tuned": after, "cost": cost})
    return rows


def tuned_heldout(scored: dict[str, Any] | None, measured: dict[str, Any] | None) -> dict[str, float]:
    """Bits per byte of the instruct model by domain, where base's were measured as in pretraining: the same text in the
    same windows. Otherwise empty, as the two cannot stand in one table."""
    by_model = {
        model: {row["group"]: row for row in (result or {}).get("rows", ()) if row["task"] == "heldout"}
        for model, result in (scored or {}).items()
    }
    base, instruct = by_model.get("base"), by_model.get("instruct")
    if not measured or not base or not instruct:
        return {}
    for domain, curve in measured["domains"].items():
        row = base.get(domain, {})
        if row.get("protocol") != measured["protocol"] or row.get("bytes") != curve["bytes"]:
            return {}
    return {domain: row["value"] for domain, row in instruct.items()}


def is_above_chance(row: dict[str, Any] | None) -> bool | None:
    """Whether even the lower end of a score's interval is above chance; None without a score."""
    return None if row is None else interval(row["value"], row["count"])[0] > (row["chance"] or 0)


def samples(scored: dict[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
    """Problems with the answers of both models, some that instruct has learnt to answer and some that it has not, each
    with its kind's score; and beginnings of held-out text with what base made of them."""
    answered: dict[str, dict[str, Any]] = {}
    continued = []
    for model, result in (scored or {}).items():
        for sample in (result or {}).get("samples", []):
            if sample["expected"] is None:
                continued.append(sample)
                continue
            pair = answered.setdefault(sample["prompt"], {**sample, "base": None, "instruct": None})
            pair[model] = sample
    share = {row["group"]: row for row in ((scored or {}).get("instruct") or {}).get("rows", ()) if is_share(row)}
    for pair in answered.values():
        group = kind_of(pair) or ""
        pair |= {"group": group, "score": share.get(group)}

    def best_first(pair: dict[str, Any]) -> tuple[float, str]:
        return (-(pair["score"] or {"value": 0})["value"], pair["group"])

    def of(correct: bool) -> list[dict[str, Any]]:
        """Of a kind at chance a right answer shows nothing learnt, nor a wrong one of a kind above it the opposite."""
        pairs = (pair for pair in answered.values() if (pair["instruct"] or {}).get("correct") is correct)
        return sorted((pair for pair in pairs if is_above_chance(pair["score"]) in (correct, None)), key=best_first)

    right, wrong = of(True), of(False)
    return {"right": one_of_each(right)[:SAMPLES], "wrong": one_of_each(wrong)[-SAMPLES:], "continued": continued}


def one_of_each(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One sample a kind, English and Chinese in turn where there are both."""
    by_group: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        by_group.setdefault(pair["group"] or pair["prompt"], []).append(pair)
    chosen = []
    for place, group in enumerate(by_group.values()):
        language = ("en", "zh")[place % 2]
        chosen.append(next((pair for pair in group if pair["language"] == language), group[0]))
    return chosen


def spread(scale: str | None) -> str:
    """How far scores differ from run to run at a scale, where it was measured (benchmarks/run_spread.py)."""
    measured = json.loads(files("yulanmini.report").joinpath("run_spread.json").read_text()).get(scale or "")
    if not measured:
        return ""
    runs = measured["runs"]
    instruct, bits = [[run[key] for run in runs if key in run] for key in ("level_1_instruct", "bits_per_byte_base")]
    shares = f"{units.percent(min(instruct))} to {units.percent(max(instruct))}"
    return (
        f"Another seed, or another machine's text, gives other scores: in {len(runs)} runs that differed in their seed "
        f"or in their text, instruct had {shares} of level 1 right, and base "
        f"{units.significant(min(bits))} to {units.significant(max(bits))} bits per byte. Differences within that "
        "mean nothing."
    )
