"""Write a model folder tensor by tensor, so that it appears whole or not at all.

The safetensors header goes first and needs only shapes, so a tensor can be produced in blocks of rows while it is
written: memory stays at one block however large the model.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, INDEX_NAME, WEIGHTS_NAME
from modeling_yulanmini.configuration_yulanmini import CheckpointError

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
# transformers' own default used to be 5 GB; it also keeps a shard below what FAT and some object stores accept.
MAX_SHARD_BYTES = 4_000_000_000


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


def write_weights(
    folder: Path,
    tensors: Sequence[TensorToWrite],
    *,
    on_tensor: Callable[[TensorToWrite], object] = lambda tensor: None,
) -> list[Path]:
    """Write `tensors` as `model.safetensors`, or as numbered shards with an index; returns the weight files.

    `on_tensor` is called after each tensor (progress). Raises `CheckpointError` if a producer's rows do not make
    the announced shape, and `OSError` (disk full) with the file and the tensor.
    """
    shards = split_into_shards(tensors, MAX_SHARD_BYTES)
    if len(shards) == 1:
        path = folder / WEIGHTS_NAME
        write_safetensors(path, shards[0], on_tensor=on_tensor)
        return [path]
    paths: list[Path] = []
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        path = folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(path, shard, on_tensor=on_tensor)
        weight_map |= {tensor.name: path.name for tensor in shard}
        paths.append(path)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors)}, "weight_map": weight_map}
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return paths


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


def write_safetensors(
    path: Path, tensors: Sequence[TensorToWrite], *, on_tensor: Callable[[TensorToWrite], object]
) -> None:
    """Write one safetensors file, streaming each tensor's rows behind the header."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # the format wants the data to start at a multiple of 8
    # Unbuffered: a full disk then shows at the tensor that it cuts off.
    with path.open("wb", buffering=0) as file:
        write_all(file, path, memoryview(struct.pack("<Q", len(encoded)) + encoded), "the header")
        for tensor in tensors:
            written = 0
            for block in tensor.blocks():
                written += write_all(file, path, as_bytes(block.to(tensor.dtype)), f"tensor {tensor.name}")
            if written != tensor.nbytes:
                raise CheckpointError(
                    f"{path.name}: tensor {tensor.name} came to {written} bytes, expected {tensor.nbytes}."
                )
            on_tensor(tensor)


def write_all(file: BinaryIO, path: Path, data: memoryview, what: str) -> int:
    """Write all of `data`, and return its bytes; an `OSError` says what was being written."""
    total = len(data)
    try:
        while data:
            data = data[file.write(data) :]
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, while writing {what}", str(path)) from error
    return total


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """The tensor's memory in row order, without a copy where it is contiguous."""
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
