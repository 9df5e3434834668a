"""Move the scale of each matrix between the matrix and its learnable WeSaR scale; the function stays the same.

By default all matrices get one root mean square, the (geometric) mean of what they have. Training then goes on nearly
as before: AdamW's step has the size of the rate, so a matrix that grew by f is moved by 1/f of what it was, relative to
itself (`Rebalancing.steps`), and with the mean these ratios stay near 1. Another RMS is for models that are not trained
further; at the one where training began (5e-5 in the published run) the next step is many times the weight.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, ModelFolder
from modeling_yulanmini.checkpoint_writer import new_folder, stored_tensor, write_model
from modeling_yulanmini.configuration_yulanmini import CheckpointError

BlocksOf = Callable[[str], Iterator[torch.Tensor]]


@dataclass(frozen=True)
class Rebalancing:
    """`factors`: by parameter name, what each is multiplied by so that every scaled matrix has RMS `rms`."""

    rms: float
    factors: dict[str, float]

    @property
    def steps(self) -> dict[str, float]:
        """By parameter name, by how much an optimizer step is larger relative to the parameter than before."""
        return {name: 1 / factor for name, factor in self.factors.items()}

    def as_dict(self) -> dict[str, Any]:
        return {"rms": self.rms, "factors": self.factors, "steps": self.steps}

    def summary(self) -> str:
        """How many tensors, the RMS, and the steps that change most."""
        steps = sorted(self.steps.items(), key=lambda item: item[1])
        (smallest, low), (largest, high) = steps[0], steps[-1]
        return (
            f"{len(self.factors)} tensors re-balanced to an RMS of {self.rms:.3g}; a training step relative to the "
            f"weights is now {low:.3g} ({smallest}) to {high:.3g} ({largest}) times what it was"
        )


def rebalance(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    rms: float | None = None,
    progress: bool = False,
) -> Rebalancing:
    """Write the model in `src` to `dst` with every matrix that has a scale at root mean square `rms`.

    `rms` defaults to the matrices' mean. Raises `CheckpointError` for a model without scales, a matrix of zeros, or
    bad input.
    """
    with new_folder(dst) as out:
        folder = ModelFolder(src)
        change = rebalancing(sorted(folder.tensors), folder.blocks, rms=rms)
        if change is None:
            raise CheckpointError(
                f"{folder.path / CONFIG_NAME}: a model without learnable scales (wesar_weights off, or merged "
                "already); there is nothing to move a matrix's norm into."
            )
        factors = change.factors
        to_write = [stored_tensor(folder, name, scale=factors.get(name, 1.0)) for name in sorted(folder.tensors)]
        files = folder.companions(code=True)
        write_model(out, folder.config, to_write, files=files, progress="rebalance" if progress else None)
    return change


def rebalancing(names: list[str], blocks: BlocksOf, *, rms: float | None) -> Rebalancing | None:
    """What brings every scaled matrix to root mean square `rms` (default: their mean); None where there is no scale.

    `blocks` gives a parameter's values in float64. Gate and up share one scale, in front of both: the gate sets it
    (silu is not linear), and what the up projection then has too much or too little goes into the scale of the down
    projection, which is linear in it. The head stays as it is: tied, it is the embedding, which has no scale; untied,
    it trains at another rate, and its size says nothing about the layers'.
    """
    if rms is not None and not (math.isfinite(rms) and rms > 0):
        raise CheckpointError(f"an RMS of {rms} was asked for; expected a number above 0.")
    projections = scaled_projections(names)
    found = {}
    for name in (name for scaled in projections.values() for name in scaled):
        found[name] = root_mean_square(blocks(f"{name}.weight"))
        if found[name] == 0:
            raise CheckpointError(f"tensor {name}.weight is all zeros; no factor gives it a root mean square.")
    if not found:
        return None
    wanted = rms if rms is not None else math.exp(fmean(math.log(value) for value in found.values()))
    factors = {f"{name}.weight": wanted / value for name, value in found.items()}
    # A bias is added before the scale multiplies the projection's output (facts.md 1.1).
    factors |= {f"{name}.bias": wanted / value for name, value in found.items() if f"{name}.bias" in names}
    factors |= {scale: found[scaled[0]] / wanted for scale, scaled in projections.items()}
    for scale, scaled in projections.items():
        if len(scaled) == 2:
            gate, up = scaled
            factors[scale.replace("gate_up_proj_alpha", "down_proj_alpha")] *= found[up] / found[gate]
    return Rebalancing(wanted, factors)


def scaled_projections(names: list[str]) -> dict[str, list[str]]:
    """By the name of each learnable scale of a layer, the projections that it scales."""
    found = {}
    for name in names:
        layer, _, leaf = name.rpartition(".")
        if leaf == "gate_up_proj_alpha":
            found[name] = [f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj"]
        elif leaf == "down_proj_alpha":
            found[name] = [f"{layer}.mlp.down_proj"]
        elif leaf.endswith("_proj_alpha"):
            found[name] = [name.removesuffix("_alpha")]
    return found


def root_mean_square(blocks: Iterator[torch.Tensor]) -> float:
    """The RMS of a tensor given in float64 blocks."""
    total, count = 0.0, 0
    for block in blocks:
        total += float(block.square().sum())
        count += block.numel()
    return math.sqrt(total / count)


def moment_factor(kind: str, factor: float) -> float:
    """What AdamW's `kind` of state is multiplied by when its parameter was multiplied by `factor`.

    A parameter that grew by f has gradients smaller by f: `exp_avg` is divided by f, `exp_avg_sq` by its square.
    """
    return factor ** {"exp_avg": -1, "exp_avg_sq": -2}.get(kind, 0)
