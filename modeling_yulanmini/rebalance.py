"""Move the scale of each matrix between the matrix and its learnable WeSaR scale; the function stays the same.

The published phases were each continued from a re-balanced checkpoint ("-rms_norm"), whose script was never
released. Here: every matrix gets the RMS asked for, its scale takes up the rest. Where the optimizer's moments are
moved along (`moment_factor`), training goes on as if nothing had happened, up to weight decay, which acts on what it
finds.
"""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, ModelFolder
from modeling_yulanmini.checkpoint_writer import (
    TensorToWrite,
    copy_files,
    new_folder,
    refuse_used_destination,
    write_config,
    write_weights,
)
from modeling_yulanmini.errors import CheckpointError

BlocksOf = Callable[[str], Iterator[torch.Tensor]]


def rebalance(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    rms: float | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the model in `src` to `dst` with every matrix that has a scale at root mean square `rms`.

    `rms` defaults to the config's `initializer_range`, where every matrix began. Returns `rms` and, by tensor name,
    the factors applied. Raises `CheckpointError` for a model without scales, a matrix of zeros, or bad input.
    """
    refuse_used_destination(Path(dst))
    folder = ModelFolder(src)
    wanted = float(rms if rms is not None else folder.config.get("initializer_range", 0))
    factors = rebalancing_factors(
        sorted(folder.tensors),
        folder.blocks,
        layers=folder.config.get("num_hidden_layers", 0),
        tied=bool(folder.config.get("tie_word_embeddings")),
        rms=wanted,
    )
    if not factors:
        raise CheckpointError(
            f"{folder.path / CONFIG_NAME}: a model without learnable scales (wesar_weights off, or merged already); "
            "there is nothing to move a matrix's norm into."
        )
    to_write = [scaled_tensor(folder, name, factors.get(name, 1.0)) for name in sorted(folder.tensors)]
    with new_folder(dst) as out:
        write_config(out, folder.config)
        copy_files([*folder.companions(), *folder.remote_code()], out)
        total = sum(tensor.nbytes for tensor in to_write)
        with tqdm(total=total, unit="B", unit_scale=True, desc="rebalance", disable=not progress) as bar:
            write_weights(out, to_write, on_tensor=lambda tensor: bar.update(tensor.nbytes))
    return {"rms": wanted, "factors": factors}


def rebalancing_factors(names: list[str], blocks: BlocksOf, *, layers: int, tied: bool, rms: float) -> dict[str, float]:
    """By parameter name, what each is multiplied by so that every scaled matrix has root mean square `rms`.

    `blocks` gives a parameter's values in float64. Gate and up share one scale, in front of both: the gate sets it
    (silu is not linear), and what the up projection then has too much or too little goes into the scale of the down
    projection, which is linear in it. A tied head stays as it is: its matrix is also the embedding, which has no
    scale.
    """
    if not (math.isfinite(rms) and rms > 0):
        raise CheckpointError(f"an RMS of {rms} was asked for; expected a number above 0.")
    known = set(names)
    factors: dict[str, float] = {}

    def shrink(matrix: str) -> float:
        """Bring a matrix to the RMS; returns what its scale must be multiplied by in return."""
        found = root_mean_square(blocks(matrix))
        if found == 0:
            raise CheckpointError(f"tensor {matrix} is all zeros; no factor gives it an RMS of {rms}.")
        factors[matrix] = rms / found
        return found / rms

    for layer in range(layers):
        at = f"model.layers.{layer}"
        for letter in "qkvo":
            prefix = f"{at}.self_attn.{letter}_proj"
            if f"{prefix}_alpha" not in known:
                continue
            factors[f"{prefix}_alpha"] = shrink(f"{prefix}.weight")
            if f"{prefix}.bias" in known:
                factors[f"{prefix}.bias"] = factors[f"{prefix}.weight"]
        if f"{at}.gate_up_proj_alpha" in known:
            gate = factors[f"{at}.gate_up_proj_alpha"] = shrink(f"{at}.mlp.gate_proj.weight")
            up = shrink(f"{at}.mlp.up_proj.weight")
            factors[f"{at}.down_proj_alpha"] = shrink(f"{at}.mlp.down_proj.weight") * up / gate
    if "lm_head_alpha" in known and "lm_head.weight" in known and not tied:
        factors["lm_head_alpha"] = shrink("lm_head.weight")
    return factors


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


def scaled_tensor(folder: ModelFolder, name: str, factor: float) -> TensorToWrite:
    """A tensor times a factor, in float64, rounded once to its own dtype."""
    stored = folder.stored(name)
    return TensorToWrite(
        name, stored.shape, stored.dtype, lambda: (block.mul_(factor) for block in folder.blocks(name))
    )
