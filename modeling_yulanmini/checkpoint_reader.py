"""Read a model folder tensor by tensor: config, index and safetensors shards, checked before anything is used.

Whatever the size of the model, a reader holds one block of rows at a time. Every error is a `CheckpointError`
that names the file and the tensor.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from modeling_yulanmini.configuration_yulanmini import CheckpointError, YuLanMiniConfig, refuse_unsafe_keys

CONFIG_NAME = "config.json"
# 16 Mi elements: 128 MiB in float64, large enough that the disk and not Python sets the pace.
BLOCK_ELEMENTS = 1 << 24
# What a tokenizer is made of, as far as transformers writes or reads it.
TOKENIZER_NAME = "tokenizer.json"
TOKENIZER_FILES = (
    TOKENIZER_NAME,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
GENERATION_CONFIG_NAME = "generation_config.json"
# The second is the spelling of the published phases 20-23.
MODEL_TYPES = (YuLanMiniConfig.model_type, "miniyulan")
# What travels with saved weights for `trust_remote_code`.
REMOTE_FILES = ("configuration_yulanmini.py", "modeling_yulanmini.py")
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what its header says of it."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        return torch.Size(self.shape).numel()


class ModelFolder:
    """A local folder with `config.json` and safetensors weights, one file or sharded. `stem`: how their paths begin.

    Raises `CheckpointError` when the folder, its config, its index or a shard's header is missing or broken; the
    numbers themselves are checked as they are read.
    """

    def __init__(self, path: str | os.PathLike[str], *, stem: str = "model") -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise CheckpointError(
                f"{path}: no such folder. Give a local model folder; `hf download REPO --local-dir DIR` makes one."
            )
        self.config: dict[str, Any] = read_json(self.path / CONFIG_NAME)
        refuse_unsafe_keys(self.config, where=str(self.path / CONFIG_NAME))
        self.tensors: dict[str, StoredTensor] = self._read_headers(stem)

    def _read_headers(self, stem: str) -> dict[str, StoredTensor]:
        index_path = self.path / f"{stem}.safetensors.index.json"
        single, place = self.path / f"{stem}.safetensors", index_path.parent
        if not index_path.is_file():
            if not single.is_file():
                raise CheckpointError(
                    f"{self.path}: neither {single.name} nor {index_path.name}. "
                    "Only safetensors are read; convert other weight files with transformers first."
                )
            return read_header(single)
        weight_map = read_json(index_path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index_path}: no weight_map. Save the model again.")
        tensors: dict[str, StoredTensor] = {}
        for name in sorted(set(weight_map.values())):
            # An index is data from elsewhere: it may only name files beside itself.
            if not isinstance(name, str) or Path(name).name != name:
                raise CheckpointError(f"{index_path}: shard {name!r} is not a file name in this folder.")
            if not (place / name).is_file():
                raise CheckpointError(f"{place / name}: missing, though {index_path.name} names it.")
            tensors |= read_header(place / name)
        places = {name: stored.file.name for name, stored in tensors.items()}
        for name in sorted(places.keys() | weight_map.keys()):
            if (found := places.get(name)) != (expected := weight_map.get(name)):
                raise CheckpointError(f"{index_path}: tensor {name} is in {found}, but the index says {expected}.")
        return tensors

    def stored(self, name: str) -> StoredTensor:
        """The entry of a tensor that must be there."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.path}: no tensor {name}, though {CONFIG_NAME} calls for it.")
        return self.tensors[name]

    def blocks(
        self, name: str, *, dtype: torch.dtype = torch.float64, scale: float = 1.0, offset: float = 0.0
    ) -> Iterator[torch.Tensor]:
        """(tensor + `offset`) * `scale`, in `dtype`, as consecutive blocks of whole rows; a 0-dim tensor is one block.

        Raises `CheckpointError` at the first NaN or infinity.
        """
        stored = self.stored(name)
        rows = stored.shape[0] if stored.shape else 1
        step = max(1, BLOCK_ELEMENTS * rows // max(1, stored.numel))
        for start in range(0, rows, step):
            # Opened anew for each block: a mapping kept open counts every page once read as resident memory.
            try:
                with safe_open(stored.file, framework="pt") as file:
                    part = file.get_slice(name)[start : start + step] if stored.shape else file.get_tensor(name)
                    block = part.to(dtype, copy=True)
            except (SafetensorError, OSError, RuntimeError) as error:
                raise CheckpointError(f"{stored.file}: tensor {name} cannot be read ({error}).") from error
            if not torch.isfinite(block).all():
                at = (~torch.isfinite(block)).nonzero()[0].tolist()
                if at:
                    at[0] += start
                raise CheckpointError(f"{stored.file}: tensor {name} holds NaN or infinity, first at {at}.")
            if offset != 0.0:
                block.add_(offset)
            yield block if scale == 1.0 else block.mul_(scale)

    def read(self, name: str, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A whole tensor, in its stored dtype by default."""
        stored = self.stored(name)
        dtype = dtype or stored.dtype
        return assemble(self.blocks(name, dtype=dtype), stored.shape, dtype)

    def scalar(self, name: str) -> float:
        """A learnable scale, stored with shape [] or [1]."""
        stored = self.stored(name)
        if stored.numel != 1:
            raise CheckpointError(f"{stored.file}: tensor {name} has shape {list(stored.shape)}, expected [] or [1].")
        return float(self.read(name, dtype=torch.float64).reshape(()))

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The folder's tokenizer, if it has one."""
        path = self.path / TOKENIZER_NAME
        if not path.is_file():
            return None
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise CheckpointError(f"{path}: not a usable tokenizer ({error}).") from error

    def check_tokenizer(self, vocab_size: int) -> None:
        """Raise `CheckpointError` if the folder's tokenizer can produce an id that the embedding has no row for."""
        ids = self.tokenizer.get_vocab().values() if self.tokenizer else []
        if (highest := max(ids, default=-1)) >= vocab_size:
            raise CheckpointError(
                f"{self.path / TOKENIZER_NAME}: token id {highest}, but {CONFIG_NAME} has vocab_size {vocab_size}. "
                "The tokenizer belongs to another model, or the embedding was not resized."
            )

    def checksums(self) -> dict[str, str]:
        """Hex SHA-256 of the config and of each weight file."""
        files = sorted({tensor.file for tensor in self.tensors.values()})
        return {path.name: sha256_of(path) for path in [self.path / CONFIG_NAME, *files]}

    def companions(self, *, code: bool) -> list[Path]:
        """Tokenizer and generation files, which go with the weights; with `code`, the model's own code too."""
        names = (*TOKENIZER_FILES, GENERATION_CONFIG_NAME, *(REMOTE_FILES if code else ()))
        return [self.path / name for name in names if (self.path / name).is_file()]


def assemble(blocks: Iterable[torch.Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Put consecutive blocks of rows together, each rounded to `dtype` once; holds the result and one block."""
    whole = torch.empty(shape, dtype=dtype)
    flat = whole.view(-1)
    filled = 0
    for block in blocks:
        flat[filled : filled + block.numel()] = block.reshape(-1)
        filled += block.numel()
    if filled != whole.numel():
        raise CheckpointError(f"{filled} values for a tensor of shape {list(shape)}.")
    return whole


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Names, shapes and dtypes of one safetensors file; safetensors itself checks the length and the offsets."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            found = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError, RuntimeError) as error:
        size = path.stat().st_size
        raise CheckpointError(f"{path}: truncated or corrupt, {size:,} bytes ({error}). Copy it again.") from error
    tensors = {}
    for name, (shape, dtype) in found.items():
        if dtype not in DTYPES:
            raise CheckpointError(f"{path}: tensor {name} has dtype {dtype}, expected one of {', '.join(DTYPES)}.")
        tensors[name] = StoredTensor(path, shape, DTYPES[dtype])
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or a `CheckpointError` that says where it breaks."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON {type(value).__name__}, expected an object.")
    return value


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read_config(path: Path) -> YuLanMiniConfig:
    """The config in `path` with its defaults resolved; `CheckpointError` if it is not a usable YuLan-Mini config."""
    content = read_json(path)
    model_type = content.get("model_type")
    if model_type not in MODEL_TYPES:
        merged = " It is merged already." if model_type in ("llama", "qwen2") else ""
        raise CheckpointError(f"{path}: model_type is {model_type!r}, expected 'yulanmini'.{merged}")
    try:
        return YuLanMiniConfig.from_dict(content | {"model_type": YuLanMiniConfig.model_type})
    except (StrictDataclassError, TypeError, ValueError, AttributeError, KeyError, ZeroDivisionError) as error:
        # The strict dataclass wraps what its validators raise; theirs is the message.
        raise CheckpointError(f"{path}: {error.__cause__ or error}") from error


def packaged_checksums() -> dict[str, str]:
    """SHA-256 of the package's own two files of remote code, by name: what a user may pin."""
    return {path.name: sha256_of(path) for path in packaged_code()}


def packaged_code() -> list[Path]:
    """The package's own two files of remote code."""
    return [Path(__file__).with_name(name) for name in REMOTE_FILES]


def differing_files(folder: str | Path) -> list[str]:
    """Names of those that `folder` lacks or holds in another version; empty if its code is the package's."""
    return [
        name
        for name, checksum in packaged_checksums().items()
        if not (Path(folder) / name).is_file() or sha256_of(Path(folder) / name) != checksum
    ]
