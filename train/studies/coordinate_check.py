"""Coordinate check: how far do activations move in the first steps, and does that depend on the width?

Models of several widths take a few updates on one batch. After each, the change of every layer's contribution to
the residual stream, of the stream's end and of the logits since initialisation is measured on that batch (root mean
square over all elements). Under a right parametrization the curves over the width are flat; the slope tells how
flat: the exponent e of change ~ width ** e.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from train.studies.lr_transfer import BASE, width_settings
from train.studies.trials import Inputs, first_state, parametrization_changes

LEARNING_RATE = 2.0**-7
ROWS = 8


def coordinate_check(
    inputs: Inputs,
    *,
    widths: Sequence[int],
    columns: Sequence[str],
    steps: int,
    seeds: int,
    base: Path = BASE,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Check every parametrization of `columns` over `widths` on rows of phase 1.

    Returns per column, place and width the change after each update, and the slope after the last.
    """
    rows = inputs.first_phase().rows(0, ROWS)
    input_ids = torch.from_numpy(rows.input_ids.astype("int64"))
    columns_found: dict[str, Any] = {}
    for column in columns:
        changes: dict[str, dict[str, list[float]]] = {}
        for width in sorted(widths):
            runs = []
            for seed in range(seeds):
                changed = {"optimizer.lr": LEARNING_RATE, "seed": seed}
                changed |= width_settings(width) | parametrization_changes(column)
                _, model, optimizer = first_state(base, inputs, changed)
                runs.append(_changes(model, optimizer, input_ids, steps))
            for place in runs[0]:
                mean = [fmean(run[place][step] for run in runs) for step in range(steps)]
                changes.setdefault(place, {})[str(width)] = mean
            last = {place: values[str(width)][-1] for place, values in changes.items()}
            say(f"{column}, width {width}: " + ", ".join(f"{place} {value:.3g}" for place, value in last.items()))
        slopes = {
            place: slope(list(map(int, by_width)), [values[-1] for values in by_width.values()])
            for place, by_width in changes.items()
        }
        columns_found[column] = {"change": changes, "slope": slopes}
    return {
        "study": "coordinate-check",
        "learning_rate": LEARNING_RATE,
        "steps": steps,
        "seeds": seeds,
        "columns": columns_found,
    }


def slope(widths: Sequence[int], values: Sequence[float]) -> float:
    """Least-squares exponent of values ~ width ** exponent."""
    x, y = [math.log2(width) for width in widths], [math.log2(value) for value in values]
    x_mean, y_mean = fmean(x), fmean(y)
    spread = sum((at - x_mean) ** 2 for at in x)
    return sum((at - x_mean) * (value - y_mean) for at, value in zip(x, y, strict=True)) / spread


def _changes(
    model: Any, optimizer: torch.optim.Optimizer, input_ids: torch.Tensor, steps: int
) -> dict[str, list[float]]:
    """RMS change of each place since initialisation, after 1..steps updates on the same rows."""
    before = _activations(model, input_ids)
    found: dict[str, list[float]] = {place: [] for place in before}
    for _ in range(steps):
        model(input_ids=input_ids, labels=input_ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        for place, now in _activations(model, input_ids).items():
            found[place].append((now - before[place]).square().mean().sqrt().item())
    return found


@torch.no_grad()
def _activations(model: Any, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each layer adds to the residual stream, the stream after the last layer, and the logits."""
    seen: dict[str, torch.Tensor] = {}

    def hook(index: int) -> Callable[..., None]:
        def note(layer: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            seen[f"layer {index}"] = output - args[0]
            seen["residual stream"] = output

        return note

    handles = [layer.register_forward_hook(hook(index)) for index, layer in enumerate(model.model.layers)]
    seen["logits"] = model.lm_head(model.model(input_ids=input_ids, use_cache=False).last_hidden_state)
    for handle in handles:
        handle.remove()
    order = [*sorted(place for place in seen if place.startswith("layer")), "residual stream", "logits"]
    return {place: seen[place] for place in order}
