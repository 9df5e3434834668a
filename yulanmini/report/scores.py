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
from yulanmini.run_layout import MODELS

SAMPLES = 4


def score_tables(scored: dict[str, Any] | None, measured: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A table for each measure of each task, the models beside each other: whole groups, and below them their parts.

    A row has the `values` of `models` in order and their `intervals` where they are shares; `last` and `interval` are
    those of the last model. A part has a column for each name that its own parts have, such as the languages; best ones
    first. Parts of which no model has anything right are only named (`none_right`). Held-out text that `gains` shows is
    left out.
    """
    shown = []
    for entries in rows_by_measure(list((scored or {}).values())):
        if tuned_heldout(scored, measured) and entries[0]["task"] == "heldout":
            continue
        share, rows = is_share(entries[0]), {}
        for entry in entries:
            whole, _, name = entry["group"].rpartition(SEPARATOR)
            intervals = [
                interval(value, entry["count"]) if share and value is not None else None for value in entry["values"]
            ]
            row = entry | {"whole": whole, "name": name, "last": entry["values"][-1], "parts": {}}
            row |= {"intervals": intervals, "interval": intervals[-1]}
            rows[entry["group"]] = row
            if whole in rows:
                rows[whole]["parts"][name] = row
        parts = [row for row in rows.values() if row["whole"] and SEPARATOR not in row["whole"]]
        none_right = [row for row in parts if share and not any(row["values"])]
        parts = [row for row in parts if row not in none_right]
        shown.append(
            entries[0]
            | {
                "models": [MODELS[model][1] for model in scored or ()],
                "share": share,
                "chances": any(row["chance"] is not None for row in rows.values()),
                "rows": [row for row in rows.values() if not row["whole"]],
                "parts": sorted(parts, key=lambda row: (row["whole"], -(row["last"] or 0))),
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
    """Whether even the upper end of the last model's interval is below what guessing in the right form gives."""
    measured = row["interval"] and row["chance"] is not None and SEPARATOR not in row["whole"]
    return bool(measured) and row["interval"][1] < row["chance"]


def gains(measured: dict[str, Any] | None, scored: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """By domain: bits per byte before training, before annealing, at the end, and after each stage of tuning (`tuned`:
    by model, with what it costs of the end of pretraining)."""
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
        after = {
            MODELS[model][1]: (bits[domain], units.change(bits[domain] / last - 1))
            for model, bits in tuned.items()
            if domain in bits and last
        }
        row = {"domain": domain, "first": values[0], "before": before, "last": last, "change": change}
        rows.append(row | {"tuned": after})
    return rows


def tuned_heldout(scored: dict[str, Any] | None, measured: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    """Bits per byte of each tuned model by domain, where base's were measured as in pretraining: the same text in the
    same windows. Otherwise empty, as they cannot stand in one table."""
    by_model = {
        model: {row["group"]: row for row in (result or {}).get("rows", ()) if row["task"] == "heldout"}
        for model, result in (scored or {}).items()
    }
    base = by_model.pop("base", None)
    if not measured or not base:
        return {}
    for domain, curve in measured["domains"].items():
        row = base.get(domain, {})
        if row.get("protocol") != measured["protocol"] or row.get("bytes") != curve["bytes"]:
            return {}
    return {model: {domain: row["value"] for domain, row in rows.items()} for model, rows in by_model.items()}


def is_above_chance(row: dict[str, Any] | None) -> bool | None:
    """Whether even the lower end of a score's interval is above chance; None without a score."""
    return None if row is None else interval(row["value"], row["count"])[0] > (row["chance"] or 0)


def samples(scored: dict[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
    """Problems with the answers of all models, some that the last has learnt to answer and some that it has not, each
    with its kind's score; and beginnings of held-out text with what base made of them."""
    last = list(scored)[-1] if scored else ""
    answered: dict[str, dict[str, Any]] = {}
    continued = []
    for model, result in (scored or {}).items():
        for sample in (result or {}).get("samples", []):
            if sample["expected"] is None:
                continued.append(sample)
                continue
            pair = answered.setdefault(sample["prompt"], {**sample, "answers": {}})
            pair["answers"][MODELS[model][1]] = sample
            if model == last:
                pair["last"] = sample
    share = {row["group"]: row for row in ((scored or {}).get(last) or {}).get("rows", ()) if is_share(row)}
    for pair in answered.values():
        group = kind_of(pair) or ""
        pair |= {"group": group, "score": share.get(group)}

    def best_first(pair: dict[str, Any]) -> tuple[float, str]:
        return (-(pair["score"] or {"value": 0})["value"], pair["group"])

    def of(correct: bool) -> list[dict[str, Any]]:
        """Of a kind at chance a right answer shows nothing learnt, nor a wrong one of a kind above it the opposite."""
        pairs = (pair for pair in answered.values() if pair.get("last", {}).get("correct") is correct)
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
    last = list(MODELS)[-1]
    instruct, bits = [[run[key] for run in runs if key in run] for key in (f"level_1_{last}", "bits_per_byte_base")]
    found = [f"base had {units.significant(min(bits))} to {units.significant(max(bits))} bits per byte"]
    if instruct:
        found.append(
            f"the last stage {units.percent(min(instruct))} to {units.percent(max(instruct))} of level 1 right"
        )
    return (
        f"Another seed, or another machine's text, gives other scores: in {len(runs)} runs that differed in their seed "
        f"or in their text, {' and '.join(found)}. Differences within that mean nothing."
    )
