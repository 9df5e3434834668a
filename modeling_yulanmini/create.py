"""A new model with random weights, written layer by layer: the full-size model needs no more memory than its embedding.

The values are those of the model's own initialisation. Each layer draws from its own seed, so the file depends on
config and seed only.
"""

import hashlib
import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, packaged_code, read_config
from modeling_yulanmini.checkpoint_writer import (
    DTYPES,
    TensorToWrite,
    choose,
    new_folder,
    refuse_used_destination,
    write_model,
)
from modeling_yulanmini.configuration_yulanmini import CheckpointError, YuLanMiniConfig
from modeling_yulanmini.modeling_yulanmini import AUTO_MAP, YuLanMiniForCausalLM, saved_name

# The published shape, initial values and multipliers (facts of Table 1, Table 3 and the released scripts) are the
# defaults of `reparametrized`.
PRESETS = {"yulanmini-2.4b": YuLanMiniConfig.reparametrized}


def config_from(preset_or_path: str | os.PathLike[str]) -> YuLanMiniConfig:
    """The config that a preset's name, a `config.json` or a folder with one stands for."""
    if str(preset_or_path) in PRESETS:
        return PRESETS[str(preset_or_path)]()
    path = Path(preset_or_path)
    if path.is_dir():
        path = path / CONFIG_NAME
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, and no preset of that name. Presets: {', '.join(PRESETS)}.")
    return read_config(path)


def create_model(
    dst: str | os.PathLike[str],
    config: YuLanMiniConfig,
    *,
    seed: int = 0,
    dtype: str = "float32",
    progress: bool = False,
) -> dict[str, Any]:
    """Write a model folder with `config` and random weights to `dst`, absent or complete.

    Returns parameters, bytes, seed and dtype. Raises `CheckpointError` for a `dst` that is not empty or a dtype other
    than "float32" and "bfloat16".
    """
    check_new_model(dst, dtype=dtype)
    with new_folder(dst) as out:
        to_write = initial_tensors(config, seed=seed, dtype=DTYPES[dtype])
        content = config.to_dict() | {"architectures": ["YuLanMiniForCausalLM"], "auto_map": AUTO_MAP, "dtype": dtype}
        write_model(out, content, to_write, files=packaged_code(), progress="create" if progress else None)
    total = sum(tensor.nbytes for tensor in to_write)
    return {"parameters": total // DTYPES[dtype].itemsize, "bytes": total, "seed": seed, "dtype": dtype}


def check_new_model(dst: str | os.PathLike[str], *, dtype: str) -> None:
    """Raise the `CheckpointError` of `create_model` for a destination or a dtype, and write nothing."""
    refuse_used_destination(Path(dst))
    choose(dtype, DTYPES, "dtype")


def initial_tensors(config: YuLanMiniConfig, *, seed: int, dtype: torch.dtype) -> list[TensorToWrite]:
    """The tensors of a new model; a layer's values are drawn when its first tensor is written."""
    model = empty_model(config)
    if config.tie_word_embeddings:
        del model.lm_head
    # What lies outside the layers is drawn, and written, first and in one piece.
    parts: dict[str, nn.Module] = {"": model}
    parts |= {f"model.layers.{number}.": layer for number, layer in enumerate(model.model.layers)}
    model.model.layers = nn.ModuleList()

    @lru_cache(maxsize=1)
    def values(prefix: str) -> dict[str, torch.Tensor]:
        return draw(model, parts[prefix], seed=f"{seed}/{prefix}")

    def block(prefix: str, name: str) -> list[torch.Tensor]:
        return [values(prefix)[name]]

    return [
        TensorToWrite(
            saved_name(prefix + name),
            tuple(parameter.shape),
            dtype,
            partial(block, prefix, name),
        )
        for prefix, part in parts.items()
        for name, parameter in part.named_parameters()
    ]


def empty_model(config: YuLanMiniConfig) -> YuLanMiniForCausalLM:
    """The model without memory for its weights, tied where the config says so."""
    with torch.device("meta"):
        model = YuLanMiniForCausalLM(config)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


@torch.no_grad()
def draw(model: YuLanMiniForCausalLM, part: nn.Module, *, seed: str) -> dict[str, torch.Tensor]:
    """Initial values, by name, of the parameters of a part of `model`; the part itself stays on meta."""
    part.to_empty(device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") >> 1)
        # Children first, as transformers does: a parent may set what its children hold.
        for module in reversed(list(part.modules())):
            model._init_weights(module)
    values = {name: parameter.detach() for name, parameter in part.named_parameters()}
    part.to("meta")
    return values
