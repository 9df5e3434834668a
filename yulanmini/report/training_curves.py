"""The figures of a training run: metrics.jsonl and heldout.jsonl as columns, phases, and points of the schedule."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from yulanmini.report.reading import RunFolder, finite, mean, relative_to

MOST_POINTS = 2000
MONITOR_POINTS = 400
AT_PEAK = 0.999


def last_of_each(records: Sequence[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """One record for each value of `keys`, in the order of the first: a resumed run may repeat the last steps."""
    latest = {tuple(str(record.get(key)) for key in keys): record for record in records}
    return sorted(latest.values(), key=lambda record: record[keys[0]])


def thinned(records: list[dict[str, Any]], most: int = MOST_POINTS) -> list[dict[str, Any]]:
    """At most `most` records: runs of neighbours become one, with mean loss and largest gradient norm.

    The largest, because a spike is what one looks for.
    """
    width = -(-len(records) // most)
    if width <= 1:
        return records
    merged = []
    for start in range(0, len(records), width):
        group = records[start : start + width]
        norms = [record["grad_norm"] for record in group if record.get("grad_norm") is not None]
        merged.append(
            group[-1]
            | {
                "loss": mean(record.get("loss") for record in group),
                "grad_norm": max(norms, default=None),
                "tokens": sum(record.get("tokens") or 0 for record in group),
                "seconds": sum(record.get("seconds") or 0 for record in group),
            }
        )
    return merged


def rate(record: dict[str, Any]) -> float | None:
    """Tokens a second of a step."""
    return record["tokens"] / record["seconds"] if record.get("tokens") and record.get("seconds") else None


def schedule_points(steps: Sequence[int], rates: Sequence[float | None]) -> dict[str, Any]:
    """Where warm-up ends and annealing starts, read off the learning rates that were used."""
    used = [(step, value) for step, value in zip(steps, rates, strict=True) if value is not None]
    if not used:
        return {}
    peak = max(value for _, value in used)
    at_peak = [step for step, value in used if value >= AT_PEAK * peak]
    return {
        "peak_lr": peak,
        "final_lr": used[-1][1],
        "warmup_end": at_peak[0],
        "annealing_start": at_peak[-1] if at_peak[-1] < used[-1][0] else None,
    }


def phase_figures(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a phase, in the order trained: steps, tokens, loss of its first and last quarter, speed."""
    phases = []
    for phase, group in groupby(records, key=lambda record: str(record["phase"])):
        inside = list(group)
        quarter = max(len(inside) // 4, 1)
        norms = [record["grad_norm"] for record in inside if record.get("grad_norm") is not None]
        speeds = [value for record in inside if (value := rate(record)) is not None]
        phases.append(
            {
                "phase": phase,
                "first_step": inside[0]["step"],
                "last_step": inside[-1]["step"],
                "tokens": sum(record.get("tokens") or 0 for record in inside),
                "loss_start": mean(record.get("loss") for record in inside[:quarter]),
                "loss_end": mean(record.get("loss") for record in inside[-quarter:]),
                "loss_end_steps": quarter,
                "lr_end": inside[-1].get("lr"),
                "grad_norm_median": median(norms) if norms else None,
                "grad_norm_max": max(norms, default=None),
                "tokens_per_second": median(speeds) if speeds else None,
            }
        )
    return phases


def monitored(records: Sequence[dict[str, Any]], key: str) -> dict[str, Any] | None:
    """The figures of one monitor: steps, and by layer or name the values there; None when it was off.

    A monitor of one number has one line without a name; a value may be a triple, its smallest, mean and largest.
    """
    found = thinned([record for record in records if record.get(key) is not None], MONITOR_POINTS)
    values = [by_name(record[key]) for record in found]
    names = list(dict.fromkeys(name for value in values for name in value))
    if not names:
        return None
    lines = {name: [value.get(name) for value in values] for name in names}
    return {"step": [record["step"] for record in found], "lines": lines}


def by_name(value: Any) -> dict[str, Any]:
    """A monitor's value in one step with a name for each number of it; layers count from 0, as in parameter names."""
    if isinstance(value, dict):
        return value
    return {f"layer {n}": item for n, item in enumerate(value)} if isinstance(value, list) else {"": value}


def dynamics(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run in a few numbers."""
    norms = [record["grad_norm"] for record in records if record.get("grad_norm") is not None]
    tokens = sum(record.get("tokens") or 0 for record in records)
    seconds = sum(record.get("seconds") or 0 for record in records)
    return {
        "steps": records[-1]["step"],
        "tokens": tokens,
        "seconds": seconds,
        "grad_norm_median": median(norms) if norms else None,
        "grad_norm_max": max(norms, default=None),
        "spikes": sum(bool(record.get("spike")) or record.get("loss") is None for record in records),
        "skipped_steps": sum(bool(record.get("skipped")) for record in records),
        "largest_variance_growth": max(
            (r["variance_growth"] for r in records if r.get("variance_growth")), default=None
        ),
        "tokens_per_second": tokens / seconds if seconds else None,
    }


def pretraining(folder: RunFolder, name: str, monitors: Iterable[str]) -> dict[str, Any] | None:
    """Everything of a pretraining run's folder that the report shows; None when no step was taken."""
    records = finite(last_of_each([r for r in folder.lines(f"{name}/metrics.jsonl") if "step" in r], "step"))
    if not records:
        return None
    config = relative_to(folder.root, folder.yaml(f"{name}/config.yaml") or {})
    manifest = folder.json(f"{name}/manifest.json")
    shown = thinned(records)
    models = folder.folders(f"{name}/models/*")
    phases = phase_figures(records)
    return {
        "finished": manifest is not None,
        **dynamics(records),
        # The one loss of the run's end, wherever it is shown.
        **{key: phases[-1][key] for key in ("loss_end", "loss_end_steps")},
        "tokens_per_step": config.get("tokens_per_step") or records[-1].get("tokens"),
        "parameters": folder.safetensors_parameters(models[-1]) if models else None,
        "models": models,
        "schedule": schedule_points([r["step"] for r in records], [r.get("lr") for r in records]),
        "phases": phases,
        "curves": {
            "step": [record["step"] for record in shown],
            "phase": [str(record["phase"]) for record in shown],
            "loss": [record.get("loss") for record in shown],
            "lr": [record.get("lr") for record in shown],
            "grad_norm": [record.get("grad_norm") for record in shown],
            "tokens_per_second": [finite(rate(record)) for record in shown],
        },
        "monitors": {key: found for key in monitors if (found := monitored(records, key))},
        "config": config,
    }


def heldout(folder: RunFolder, name: str) -> dict[str, Any] | None:
    """Held-out bits per byte by domain: before training, and at each phase's end."""
    records = finite(
        last_of_each([r for r in folder.lines(f"{name}/heldout.jsonl") if "domain" in r], "step", "domain")
    )
    if not records:
        return None
    steps = sorted({record["step"] for record in records})
    phase_at = {record["step"]: None if record["step"] == 0 else str(record["phase"]) for record in records}
    found = {(record["step"], record["domain"]): record for record in records}
    domains = {}
    for domain in sorted({record["domain"] for record in records}):
        rows = [found.get((step, domain), {}) for step in steps]
        last = next(row for row in reversed(rows) if row)
        domains[domain] = {
            "bits_per_byte": [row.get("bits_per_byte") for row in rows],
            "loss": [row.get("loss") for row in rows],
            "bytes": last.get("bytes"),
            "tokens": last.get("tokens"),
        }
    phases = [phase_at[step] for step in steps]
    return {"step": steps, "phase": phases, "domains": domains, "protocol": records[-1].get("protocol")}


def tuning(folder: RunFolder, name: str) -> dict[str, Any] | None:
    """What a stage of tuning logged at each step: loss and rate, and what else is a number."""
    logged = [record for record in folder.lines(f"{name}/metrics.jsonl") if "step" in record and "loss" in record]
    records = finite(last_of_each(logged, "step"))
    manifest = folder.json(f"{name}/manifest.json")
    if not records and manifest is None:
        return None
    shown = thinned(records)
    numbers = {key for record in shown for key, value in record.items() if isinstance(value, int | float)}
    return {
        "finished": manifest is not None,
        "steps": records[-1]["step"] if records else None,
        "counts": (manifest or {}).get("counts", {}),
        "curves": {key: [record.get(key) for record in shown] for key in sorted(numbers | {"step", "loss"})},
    }
