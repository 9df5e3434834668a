"""Write a model folder tensor by tensor, so that it appears whole or not at all.

A tensor is made in blocks of rows when its turn comes: memory stays at one shard however large the model.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, INDEX_NAME, WEIGHTS_NAME, assemble
from modeling_yulanmini.configuration_yulanmini import CheckpointError

# What models are written in, by the name in commands and configs.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# A shard is in memory while it is made: what a model of any size needs is this, or its largest tensor.
MAX_SHARD_BYTES = 1_000_000_000


@dataclass(frozen=True)
class TensorToWrite:
    """A tensor of the result: its header entry, and how to get its rows, block by block, when its turn comes."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    blocks: Callable[[], Iterable[torch.Tensor]]

    @property
    def nbytes(self) -> int:
        return int(torch.Size(self.shape).numel()) * self.dtype.itemsize


@contextmanager
def new_folder(destination: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `destination` that becomes it in one rename, or vanishes on any error.

    Raises `CheckpointError` if `destination` exists and is not an empty folder. What a killed run left under the
    temporary name is removed.
    """
    destination = Path(destination)
    refuse_used_destination(destination)
    partial = destination.parent / f".{destination.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            flush_to_disk(path)
        partial.rename(destination)
        flush_to_disk(destination.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def refuse_used_destination(destination: Path) -> None:
    """Raise `CheckpointError` if writing to `destination` would overwrite something."""
    if destination.is_dir() and not any(destination.iterdir()):
        return
    if destination.exists() or destination.is_symlink():
        raise CheckpointError(f"{destination}: exists and is not empty. Choose another folder or remove it.")


def flush_to_disk(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_files(files: Iterable[Path], folder: Path) -> None:
    """Copy files into `folder` under their own names, following links (a Hub cache holds nothing else)."""
    for path in files:
        shutil.copyfile(path, folder / path.name)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write `config.json` the way transformers does."""
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")


def write_model(
    folder: Path,
    config: dict[str, Any],
    tensors: Sequence[TensorToWrite],
    *,
    files: Iterable[Path] = (),
    progress: str | None = None,
) -> None:
    """Write a whole model into `folder`: `config.json`, copies of `files`, and the weights.

    The weights are `model.safetensors`, or numbered shards with an index. `progress` is the name of the bar. Raises
    `CheckpointError` if a producer's rows do not make the announced shape, `OSError` (disk full) with file and tensors.
    """
    write_config(folder, config)
    copy_files(files, folder)
    shards = split_into_shards(tensors, MAX_SHARD_BYTES)
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    total = sum(tensor.nbytes for tensor in tensors)
    with tqdm(total=total, unit="B", unit_scale=True, desc=progress, disable=progress is None) as bar:
        for name, shard in zip(names if len(shards) > 1 else [WEIGHTS_NAME], shards, strict=True):
            write_shard(folder / name, shard, on_tensor=lambda tensor: bar.update(tensor.nbytes))
    if len(shards) > 1:
        weight_map = {tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_shard(path: Path, tensors: Sequence[TensorToWrite], *, on_tensor: Callable[[TensorToWrite], object]) -> None:
    """Compute the tensors of one safetensors file, and write it."""
    values = {}
    for tensor in tensors:
        try:
            values[tensor.name] = assemble(tensor.blocks(), tensor.shape, tensor.dtype)
        except (CheckpointError, RuntimeError) as error:
            raise CheckpointError(f"{path.name}: tensor {tensor.name}: {error}") from error
        on_tensor(tensor)
    try:
        save_file(values, path, metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise OSError(f"{path}: tensors {tensors[0].name} to {tensors[-1].name} cannot be written ({error})") from error


def split_into_shards(tensors: Sequence[TensorToWrite], max_shard_bytes: int) -> list[list[TensorToWrite]]:
    """Cut a list of tensors, in order, into runs of at most `max_shard_bytes` (one tensor at least)."""
    shards: list[list[TensorToWrite]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards
