"""Logits of a causal language model of any size, one decoder layer in memory at a time.

The model's own forward runs; only its weights come and go, by hooks on the decoder layers. What lies outside the
layers (embedding, head, norms, scales) stays in memory, in float32.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.modeling_yulanmini import saved_name

ReadTensor = Callable[[str], torch.Tensor]


@torch.no_grad()
def streamed_logits(
    config: PreTrainedConfig, read: ReadTensor, input_ids: torch.Tensor, position_ids: torch.Tensor
) -> torch.Tensor:
    """Float32 logits [batch, length, vocabulary] of the model that `config` describes.

    `read` gives a parameter by its name in the file, as float32; `input_ids` and `position_ids` are [batch, length]
    int64. Positions may leave gaps: all rows are one sequence each.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval()
    # The only tensor of the network that is no parameter is computed from the config, and was not, on meta.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    layers = model.model.layers
    inside = {id(parameter) for parameter in layers.parameters()}
    for name, parameter in list(model.named_parameters()):
        if id(parameter) not in inside:
            set_parameter(model, name, read(saved_name(name)))
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(loader(read, f"model.layers.{number}."))
        layer.register_forward_hook(release)
    # With a mask of ones, positions that leave gaps are not taken for the starts of packed documents.
    mask = torch.ones_like(input_ids)
    return model(input_ids=input_ids, position_ids=position_ids, attention_mask=mask, use_cache=False).logits.float()


def loader(read: ReadTensor, prefix: str) -> Callable[..., None]:
    """A forward pre-hook that fills a decoder layer from the file."""

    def load(layer: nn.Module, inputs: tuple) -> None:
        for name, _ in list(layer.named_parameters()):
            set_parameter(layer, name, read(prefix + name))

    return load


def release(layer: nn.Module, inputs: tuple, output: object) -> None:
    """A forward hook that gives a decoder layer's memory back."""
    layer.to("meta")


def set_parameter(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Replace a parameter, on meta, by its value; a scale stored as [] fits a parameter of shape [1]."""
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    parameter = getattr(owner, leaf)
    if value.numel() != parameter.numel():
        raise CheckpointError(f"tensor {name} has shape {list(value.shape)}, expected {list(parameter.shape)}.")
    setattr(owner, leaf, nn.Parameter(value.reshape(parameter.shape), requires_grad=False))
