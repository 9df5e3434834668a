"""Build the model of a run: config keys and parametrization, weights at random or from a model folder, sharding."""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from huggingface_hub.errors import StrictDataclassError
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForCausalLM, PreTrainedModel

from data_recipes.errors import nearest
from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.config import PretrainConfig
from train.errors import TrainError
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
    """Copy the weights of a model folder; TrainError names parameters that are missing or of another shape.

    Rank 0 reads them and hands them on: no other takes the memory of a second model, nor the time of the disk.
    """
    if not dist.is_initialized() or dist.get_rank() == 0:
        _read_weights(model, folder)
    if dist.is_initialized():
        for parameter in model.parameters():
            dist.broadcast(parameter.data, src=0)


def _read_weights(model: PreTrainedModel, folder: Path) -> None:
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


def shard_model(model: Any, optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> Any:
    """The model (a causal LM with `model.layers`) and the optimizer over it, sharded by accelerate in place.

    With FSDP2 each layer is a unit, and embedding and head together belong to the model's own, as they may be tied.
    accelerate's wrapper of the optimizer is left aside: the loop steps the optimizer itself, whose fused kernel takes
    `found_inf`.
    """
    # Where embedding and head are tied accelerate makes one unit of them and the last norm, and torch gathers it when
    # the first of the three is called and counts on each being called once a forward pass. Here the loss takes the
    # head's weight without a call, and what scores rows calls it often: a later step would read weights that are gone.
    model.get_input_embeddings = model.get_output_embeddings = lambda: None
    try:
        model, _ = accelerator.prepare(model, optimizer)
    except ValueError as error:  # a layer class of `accelerate config` that the model does not have
        raise TrainError(f"accelerate: {error}") from error
    finally:
        del model.get_input_embeddings, model.get_output_embeddings
    # The loss is divided by the number of targets of all ranks, so their gradients are to be added, where FSDP takes
    # the mean. Sums alone also run on gloo, which multiplies nothing on the way.
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
    return model


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
