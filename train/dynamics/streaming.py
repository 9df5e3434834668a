"""A forward pass, and a look at every weight, with one layer of the model in memory at a time.

The model's own forward runs unchanged: a hook before each layer reads the layer's weights, one behind it lets them go.
"""

import contextlib
import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from modeling_yulanmini import YuLanMiniConfig, linear_cross_entropy
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.folding import EMBEDDING, HEAD
from modeling_yulanmini.modeling_yulanmini import saved_name
from train.dynamics.checkpoints import Checkpoint

OnLayer = Callable[[int, Any], None]
OnOutput = Callable[[int, torch.Tensor], None]
OnAttention = Callable[[int, Any, torch.Tensor, tuple[torch.Tensor, torch.Tensor]], None]


class StreamedModel:
    """The model of a checkpoint without its weights, which come and go; in float32 on `device`.

    Raises `CheckpointError` where config and weights do not belong together.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint = checkpoint
        self.device = device
        with torch.device("meta"):
            self.model = AutoModelForCausalLM.from_config(checkpoint.config, attn_implementation="sdpa").eval().float()
        self.base = self.model.model
        self.is_tied = bool(checkpoint.config.tie_word_embeddings)
        self.has_scales = isinstance(checkpoint.config, YuLanMiniConfig) and checkpoint.config.wesar_weights
        self._check_names()
        # The only buffers of the model, computed from the config.
        self.base.rotary_emb = type(self.base.rotary_emb)(config=checkpoint.config).to(device)

    @property
    def layers(self) -> Any:
        return self.base.layers

    def _check_names(self) -> None:
        stored = self.checkpoint.weights.shapes()
        expected = {saved_name(name): tuple(value.shape) for name, value in self.model.named_parameters()}
        if self.is_tied:
            expected.pop(HEAD, None)
            stored.pop(HEAD, None)  # some writers store a tied head a second time
        for name in sorted(stored.keys() | expected.keys()):
            found, wanted = stored.get(name), expected.get(name)
            # A scale is stored with shape [] or [1].
            if found == wanted or (name.endswith("_alpha") and {found, wanted} == {(), (1,)}):
                continue
            raise CheckpointError(
                f"{self.checkpoint.name}: tensor {name} {_shape(found)} in the weights, {_shape(wanted)} by the "
                "config. Config and weights are of different models."
            )

    def load(self, module: nn.Module, prefix: str) -> None:
        """Read the weights of a part of the model, whose parameters are on the meta device."""
        for name, parameter in list(module.named_parameters()):
            self._put(module, name, self.checkpoint.weights.read(saved_name(prefix + name)).reshape(parameter.shape))

    def _put(self, module: nn.Module, name: str, tensor: torch.Tensor) -> None:
        owner, _, leaf = name.rpartition(".")
        place = module.get_submodule(owner)
        place.register_parameter(leaf, nn.Parameter(tensor.to(self.device), requires_grad=False))

    def load_ends(self) -> None:
        """The embedding, the final norm and the scales beside them; not the layers, and not an untied head."""
        for name, parameter in list(self.base.named_parameters()):
            if not name.startswith("layers."):
                tensor = self.checkpoint.weights.read(saved_name(f"model.{name}"))
                self._put(self.base, name, tensor.reshape(parameter.shape))
        if self.is_tied:
            self._check_tied_head()
            self.model.lm_head.weight = self.base.embed_tokens.weight

    def _check_tied_head(self) -> None:
        shapes = self.checkpoint.weights.shapes()
        if HEAD in shapes and not torch.equal(
            self.checkpoint.weights.read(HEAD).to(self.device), self.base.embed_tokens.weight
        ):
            raise CheckpointError(
                f"{self.checkpoint.name}: {HEAD} differs from {EMBEDDING}, though the config ties them."
            )

    def load_head(self) -> None:
        """The head in place of the embedding, which is not needed any more; nothing to do where they are tied."""
        if not self.is_tied:
            let_go(self.base.embed_tokens)
            self.load(self.model.lm_head, "lm_head.")

    def visit_layers(self, on_layer: OnLayer) -> None:
        """Show each layer with its weights, in order, without a forward pass."""
        for index, layer in enumerate(self.layers):
            self._enter(index, on_layer, layer)
            let_go(layer)

    @torch.inference_mode()
    def forward(
        self, input_ids: torch.Tensor, *, on_layer: OnLayer, on_output: OnOutput, on_attention: OnAttention
    ) -> torch.Tensor:
        """Hidden states [rows, tokens, hidden] as the head takes them, of input_ids [rows, tokens].

        Each layer is shown with its weights, what its attention is given (hidden states, cos and sin), and its output.
        """
        handles = []
        for index, layer in enumerate(self.layers):
            handles.append(layer.register_forward_pre_hook(partial(self._enter, index, on_layer)))
            attend = partial(_give, index, on_attention)
            handles.append(layer.self_attn.register_forward_pre_hook(attend, with_kwargs=True))
            handles.append(layer.register_forward_hook(partial(_leave, index, on_output)))
        try:
            return self.base(input_ids=input_ids.to(self.device), use_cache=False).last_hidden_state
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, index: int, on_layer: OnLayer, layer: nn.Module, args: Any = None) -> None:
        self.load(layer, f"model.layers.{index}.")
        on_layer(index, layer)

    @torch.inference_mode()
    def loss(self, hidden_states: torch.Tensor, input_ids: torch.Tensor) -> float:
        """Mean next-token cross-entropy of each row, in nats a token; the head is loaded."""
        kept = hidden_states[:, :-1].flatten(0, 1)
        targets = input_ids[:, 1:].to(self.device).flatten()
        total, _ = linear_cross_entropy(kept, self.model.lm_head, targets)
        return float(total) / targets.numel()


def _give(index: int, on_attention: OnAttention, attention: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    on_attention(index, attention, kwargs["hidden_states"], kwargs["position_embeddings"])


def _leave(index: int, on_output: OnOutput, layer: nn.Module, args: Any, output: Any) -> None:
    on_output(index, output[0] if isinstance(output, tuple) else output)
    let_go(layer)


def let_go(module: nn.Module) -> None:
    """Drop a part's weights, and give their pages back: glibc keeps freed blocks of up to 32 MiB, and with the sizes of
    weights and activations alternating its heap grew by 70 MB a layer at 2,048 tokens."""
    module.to("meta")
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "is not" if shape is None else f"has shape {list(shape)}"
