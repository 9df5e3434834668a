"""Average checkpoints of one run, tensor by tensor: the weights of several folders, one folder out.

The report averages the last checkpoints of annealing. The average of a product is not the product of averages:
where checkpoints were re-balanced between matrix and scale in between, merge first and average the merged models.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, ModelFolder
from modeling_yulanmini.checkpoint_writer import TensorToWrite, new_folder, write_model
from modeling_yulanmini.configuration_yulanmini import CheckpointError

# What may differ between checkpoints of one run: bookkeeping, not architecture.
BOOKKEEPING_KEYS = {
    "_name_or_path",
    "transformers_version",
    "num_steps_trained_before_this_epoch",
    "num_epochs_trained_before_this_epoch",
    "use_cache",
    "gradient_checkpointing_step",
}


def average(
    sources: Sequence[str | os.PathLike[str]],
    dst: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the weighted mean of the models in `sources` to `dst`; equal weights by default.

    Sums are formed in float64 and rounded once to each tensor's own dtype; weights are divided by their sum. Config,
    tokenizer and generation config are the last source's. Returns sources, weights used, tensors and parameters.

    Raises `CheckpointError` for fewer than two sources, for weights that do not fit, for sources that differ in
    architecture, tensor names or shapes, and for a `dst` that is not empty.
    """
    with new_folder(dst) as out:
        shares = normalised(weights, len(sources))
        folders = [ModelFolder(source) for source in sources]
        for other in folders[1:]:
            refuse_different(folders[0], other)
        last = folders[-1]
        to_write = [
            TensorToWrite(name, stored.shape, stored.dtype, partial(mean_blocks, name, folders, shares))
            for name, stored in sorted(last.tensors.items())
        ]
        files = last.companions(code=True)
        write_model(out, last.config, to_write, files=files, progress="average" if progress else None)
    return {
        "sources": [str(folder.path) for folder in folders],
        "weights": shares,
        "tensors": len(to_write),
        "parameters": sum(stored.numel for stored in last.tensors.values()),
    }


def normalised(weights: Sequence[float] | None, count: int) -> list[float]:
    """Weights that add up to one."""
    if count < 2:
        raise CheckpointError(f"{count} checkpoint to average; give at least two.")
    if weights is None:
        return [1 / count] * count
    if len(weights) != count:
        raise CheckpointError(f"{len(weights)} weights for {count} checkpoints; give one for each.")
    total = sum(weights)
    if min(weights) < 0 or not 0 < total < float("inf"):
        raise CheckpointError(f"weights {list(weights)}: none may be negative, and their sum must be positive.")
    return [weight / total for weight in weights]


def refuse_different(first: ModelFolder, other: ModelFolder) -> None:
    """Raise `CheckpointError` where two folders do not hold the same model at different times."""
    keys = (first.config.keys() | other.config.keys()) - BOOKKEEPING_KEYS
    for key in sorted(keys):
        ours, theirs = first.config.get(key), other.config.get(key)
        if ours != theirs:
            raise CheckpointError(
                f"{other.path / CONFIG_NAME}: {key} is {theirs!r}, but {ours!r} in {first.path}. "
                "Only checkpoints of one architecture can be averaged."
            )
    for name in sorted(first.tensors.keys() ^ other.tensors.keys()):
        has, lacks = (first, other) if name in first.tensors else (other, first)
        raise CheckpointError(f"{lacks.path}: no tensor {name}, which {has.path} has.")
    for name, stored in first.tensors.items():
        if stored.shape != other.tensors[name].shape:
            raise CheckpointError(
                f"{other.tensors[name].file}: tensor {name} has shape {list(other.tensors[name].shape)}, "
                f"but {list(stored.shape)} in {stored.file}."
            )


def mean_blocks(name: str, folders: Sequence[ModelFolder], shares: Sequence[float]) -> Iterator[torch.Tensor]:
    """The weighted mean of one tensor in float64, in blocks of rows."""
    for parts in zip(*(folder.blocks(name) for folder in folders), strict=True):
        mean = torch.zeros_like(parts[0])
        for part, share in zip(parts, shares, strict=True):
            mean.add_(part, alpha=share)
        yield mean
