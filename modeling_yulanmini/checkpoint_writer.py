"""Write a model folder tensor by tensor, so that it appears whole or not at all.

A tensor is made in blocks of rows when its turn comes: memory stays at one shard however large the model.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, ModelFolder, assemble
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
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def values(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The whole tensor, rounded once to its own dtype or to `dtype`."""
        return assemble(self.blocks(), self.shape, dtype or self.dtype)


def stored_tensor(folder: ModelFolder, name: str, *, scale: float = 1.0) -> TensorToWrite:
    """A tensor of `folder` times `scale`, rounded once to its own dtype."""
    stored = folder.stored(name)
    return TensorToWrite(name, stored.shape, stored.dtype, partial(folder.blocks, name, scale=scale))


def choose(name: str, known: dict[str, Any], what: str) -> Any:
    """The entry of that name, or a `CheckpointError` that lists the names there are."""
    if name not in known:
        raise CheckpointError(f"no {what} '{name}'. Known: {', '.join(known)}.")
    return known[name]


@contextmanager
def new_folder(destination: str | os.PathLike[str]) -> Iterator[Path]:
    """As `new_path`, with an empty folder there."""
    with new_path(destination) as unfinished:
        unfinished.mkdir()
        yield unfinished


@contextmanager
def new_path(destination: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `destination`; what is there becomes it in one rename, or vanishes on any error.

    Raises `CheckpointError` if `destination` exists and is not an empty folder. What a killed run left under the
    temporary name is removed.
    """
    destination = Path(destination)
    refuse_used_destination(destination)
    unfinished = destination.parent / f".{destination.name}.partial"
    remove(unfinished)
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        for path in [*unfinished.rglob("*"), unfinished]:
            if path.is_file() and path.stat().st_mode & 0o777 == 0o600:  # safetensors: for the owner alone
                path.chmod(unfinished.stat().st_mode & 0o666)
            flush_to_disk(path)
        unfinished.rename(destination)
        flush_to_disk(destination.parent)
    except BaseException as error:
        remove(unfinished)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(destination)  # else that of the file that was copied, or none
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


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


def write_model(
    folder: Path,
    config: dict[str, Any],
    tensors: Sequence[TensorToWrite],
    *,
    files: Iterable[Path] = (),
    progress: str | None = None,
) -> None:
    """Write a whole model into `folder`: `config.json`, copies of `files`, and the weights.

    `progress` is the name of the bar. Raises what `write_tensors` raises.
    """
    write_json(folder / CONFIG_NAME, config)
    for path in files:
        shutil.copyfile(path, folder / path.name)
    write_tensors(folder, tensors, progress=progress)


def write_tensors(
    folder: Path, tensors: Sequence[TensorToWrite], *, stem: str = "model", progress: str | None = None
) -> None:
    """Write tensors into `folder`: `STEM.safetensors`, or numbered shards with an index.

    Raises `CheckpointError` if a producer's rows do not make the announced shape, `OSError` (disk full) with file and
    tensors.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    split = split_state_dict_into_shards_factory(
        by_name,
        get_storage_size=lambda tensor: tensor.nbytes,
        filename_pattern=stem + "{suffix}.safetensors",
        max_shard_size=MAX_SHARD_BYTES,
    )
    total = sum(tensor.nbytes for tensor in tensors)
    with tqdm(total=total, unit="B", unit_scale=True, desc=progress, disable=progress is None) as bar:
        for file, names in split.filename_to_tensors.items():
            values = {}
            for name in names:
                try:
                    values[name] = by_name[name].values()
                except (CheckpointError, RuntimeError) as error:
                    raise CheckpointError(f"{file}: tensor {name}: {error}") from error
                bar.update(by_name[name].nbytes)
            try:
                save_file(values, folder / file, metadata={"format": "pt"})
            except SafetensorError as error:  # the operating system's errors come as text: "... (os error 28)"
                number = re.search(r"os error (\d+)", str(error))
                what = f"{file}: tensors {names[0]} to {names[-1]} cannot be written ({error})"
                raise OSError(int(number[1]) if number else errno.EIO, what, str(folder / file)) from error
    if split.is_sharded:
        write_json(
            folder / f"{stem}.safetensors.index.json",
            {"metadata": split.metadata, "weight_map": split.tensor_to_filename},
        )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file the way transformers does."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
