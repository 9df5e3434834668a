"""Build the model of a run: config keys and parametrization, weights at random or from a model folder, sharding.

Sharding is torch's own FSDP2, the same on CUDA and on gloo/CPU: accelerate 1.15 leaves CPU processes unsharded without
a word, so the order of operations is written out here.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import AutoModelForCausalLM, PreTrainedModel

from data_recipes.errors import nearest
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.config import PretrainConfig
from train.errors import TrainError
from train.launch.world import World
from train.model_setup.attention import choose_attention
from train.model_setup.parametrization import Parametrization, make_parametrization

ALIASES = ("rope_theta",)


def model_config(config: PretrainConfig, *, vocab_size: int) -> tuple[YuLanMiniConfig, Parametrization]:
    """The model's config: the parametrization's keys, then those of `model`, which win.

    `vocab_size`: that of the tokenizer, used where `model` gives none; a smaller one there is an error.
    """
    keys, where = _given_keys(config)
    known = [*YuLanMiniConfig().to_dict(), *ALIASES]
    for key in keys:
        # A published config.json has keys that only its own trainer read; what the user writes here must be right.
        if key not in known and isinstance(config.model, dict):
            raise TrainError(f"{where}: unknown key '{key}'.{nearest(key, known)}")
    try:
        shape = YuLanMiniConfig(**keys)
        parametrization = make_parametrization(
            config.parametrization, hidden_size=shape.hidden_size, num_layers=shape.num_hidden_layers
        )
        defaults = {
            "vocab_size": vocab_size,
            "initializer_range": 5e-5,
            **parametrization.model_settings(shape.head_dim or shape.hidden_size),
        }
        built = YuLanMiniConfig(**{**defaults, **keys})
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise TrainError(f"{where}: {error.__cause__ or error}") from error
    if built.vocab_size < vocab_size:
        raise TrainError(
            f"{where}.vocab_size: {built.vocab_size}, but the tokenizer in {config.tokenizer} has {vocab_size} tokens. "
            "Leave the key out to take the tokenizer's."
        )
    if not built.wesar_weights and any(stage.rebalance for stage in config.stages):
        raise TrainError(
            "stages: rebalance is true, but this model has no learnable scales (wesar_weights is off). Set rebalance "
            "to false, or take a parametrization with WeSaR."
        )
    return built, parametrization


def build_model(config: PretrainConfig, *, vocab_size: int, device: torch.device) -> tuple[Any, Parametrization]:
    """The model on `device` in float32, the same on every rank; weights from `init.path` if that is a model folder."""
    built, parametrization = model_config(config, vocab_size=vocab_size)
    torch.manual_seed(config.seed)
    built._attn_implementation, _ = choose_attention(config.attention, precision=config.precision, device=device)
    try:
        with torch.device(device):
            model = YuLanMiniForCausalLM(built)
    except (ImportError, ValueError) as error:
        raise TrainError(f"attention: {config.attention} cannot be used here ({error}) Try attention=auto.") from error
    parametrization.initialise(model)
    if config.init is not None and (config.init.path / "config.json").is_file():
        load_weights(model, config.init.path)
    model.train()
    return model, parametrization


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Copy the weights of a model folder; TrainError names parameters that are missing or of another shape."""
    source = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs, ours = dict(source.named_parameters()), dict(model.named_parameters())
    problems = [f"{name} is missing" for name in ours if name not in theirs]
    problems += [f"{name} is not part of this model" for name in theirs if name not in ours]
    problems += [
        f"{name} has shape {tuple(theirs[name].shape)}, expected {tuple(ours[name].shape)}"
        for name in ours
        if name in theirs and theirs[name].numel() != ours[name].numel()
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise TrainError(
            f"init.path: {folder} holds another model: {'; '.join(problems[:3])}{more}. "
            f"Make `model` agree with {folder / 'config.json'}."
        )
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(theirs[name].reshape(parameter.shape))


def shard_model(model: nn.Module, world: World, *, precision: str, reshard_after_forward: bool) -> nn.Module:
    """Shard `model` (a causal LM with `model.layers`) in place over all ranks; each layer is a unit, the rest another.

    Parameters stay float32 (the master weights); with `precision` bfloat16 they are cast for compute, gradients
    are reduced in float32. Embedding and head stay in one unit since they may be tied. Without a process group
    (one rank in float32) the model is left as it is. Outputs keep the compute dtype: the loss is taken in float32
    by the model.
    """
    if not dist.is_initialized():
        return model
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bfloat16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    return model


def sync_gradients(model: nn.Module, enabled: bool) -> None:
    """Reduce gradients in the next backward pass, or only add them up locally (all but the last micro-batch)."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(enabled)


def _given_keys(config: PretrainConfig) -> tuple[dict[str, Any], str]:
    """Keys of the model's config and how messages call the place."""
    if isinstance(config.model, dict):
        return dict(config.model), "model"
    path = config.model / "config.json" if config.model.is_dir() else config.model
    try:
        keys = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrainError(f"model: {path}: {error}. Expected a config.json or the keys themselves.") from error
    skipped = ("architectures", "auto_map", "transformers_version", "model_type", "dtype", "torch_dtype")
    return {key: value for key, value in keys.items() if key not in skipped}, str(path)
