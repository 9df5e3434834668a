"""A new model with random weights, written layer by layer: the full-size model needs no more memory than its embedding.

The values are those of the model's own initialisation. Each layer draws from its own seed, so the file depends on
config and seed only.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, REMOTE_FILES, read_config
from modeling_yulanmini.checkpoint_writer import (
    DTYPES,
    TensorToWrite,
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
    refuse_used_destination(Path(dst))
    if dtype not in DTYPES:
        raise CheckpointError(f"no dtype '{dtype}'. Known: {', '.join(DTYPES)}.")
    to_write = initial_tensors(config, seed=seed, dtype=DTYPES[dtype])
    content = config.to_dict() | {"architectures": ["YuLanMiniForCausalLM"], "auto_map": AUTO_MAP, "dtype": dtype}
    total = sum(tensor.nbytes for tensor in to_write)
    with new_folder(dst) as out:
        files = [Path(__file__).with_name(name) for name in REMOTE_FILES]
        write_model(out, content, to_write, files=files, progress="create" if progress else None)
    return {"parameters": total // DTYPES[dtype].itemsize, "bytes": total, "seed": seed, "dtype": dtype}


def initial_tensors(config: YuLanMiniConfig, *, seed: int, dtype: torch.dtype) -> list[TensorToWrite]:
    """The tensors of a new model; a layer's values are drawn when its first tensor is written."""
    model = empty_model(config)

    @lru_cache(maxsize=1)
    def values(layer: int | None) -> dict[str, torch.Tensor]:
        prefix = "" if layer is None else f"model.layers.{layer}."
        root = model if layer is None else model.model.layers[layer]
        inside_layers = "model.layers." if layer is None else None
        return draw(model, root, prefix, skip=inside_layers, seed=seed)

    def block(layer: int | None, name: str) -> Iterator[torch.Tensor]:
        yield values(layer)[name]

    tensors = []
    for name, parameter in model.named_parameters():
        layer = int(name.split(".")[2]) if name.startswith("model.layers.") else None
        tensors.append(TensorToWrite(saved_name(name), tuple(parameter.shape), dtype, partial(block, layer, name)))
    # All that lies outside the layers is drawn once: write it together.
    return sorted(tensors, key=lambda tensor: tensor.name.startswith("model.layers."))


def empty_model(config: YuLanMiniConfig) -> YuLanMiniForCausalLM:
    """The model without memory for its weights, tied where the config says so."""
    with torch.device("meta"):
        model = YuLanMiniForCausalLM(config)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


@torch.no_grad()
def draw(
    model: YuLanMiniForCausalLM, root: nn.Module, prefix: str, *, skip: str | None, seed: int
) -> dict[str, torch.Tensor]:
    """Initial values, by full name, of the parameters below `root`, except below `skip`; `root` stays on meta."""
    holders = {
        name: module
        for name, module in root.named_modules()
        if not (skip and name.startswith(skip)) and not name.endswith("rotary_emb")
    }
    tied = model.config.tie_word_embeddings
    for name, module in holders.items():
        if not (tied and name == "lm_head"):
            module.to_empty(device="cpu", recurse=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{prefix}".encode()).digest()[:8], "big") >> 1)
        # Children first, as transformers does: a parent may set what its children hold.
        for name, module in reversed(holders.items()):
            if not (tied and name == "lm_head"):
                model._init_weights(module)
    values = {
        prefix + (f"{name}." if name else "") + leaf: parameter.detach()
        for name, module in holders.items()
        for leaf, parameter in module.named_parameters(recurse=False)
        if not parameter.is_meta
    }
    for module in holders.values():
        for leaf, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, leaf, nn.Parameter(parameter.detach().to("meta")))
    return values
