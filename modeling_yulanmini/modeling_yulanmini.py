# Copyright 2026 The yulanmini maintainers. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""YuLan-Mini before its scales are merged: a Llama decoder with muP multipliers and WeSaR alphas.

Every multiplier acts inside `YuLanMiniModel`, the head's included: frameworks that keep only the base model and
`lm_head.weight` (vLLM, TRL's fused head) lose nothing. This file and the config's are copied beside saved weights.
"""
# Config fields that may be None in a file are filled in by its __post_init__, which mypy does not see.
# mypy: disable-error-code="operator,index,arg-type,union-attr"

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming
from transformers.distributed.tensor_parallel import ALL_PARALLEL_STYLES, TensorParallelLayer
from transformers.generation import GenerationMixin
from transformers.integrations import is_fsdp_enabled
from transformers.masking_utils import create_causal_mask
from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids
from transformers.modeling_layers import GenericForSequenceClassification, GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel, slice_logits_to_keep
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRotaryEmbedding, eager_attention_forward
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_yulanmini import CheckpointError, YuLanMiniConfig, refuse_unpinned_kernel

# Elements of fp32 logits that exist at once in the loss: 128 MiB on a CPU. On an accelerator 1 GiB: every chunk reads
# and writes the head's fp32 gradient (760 MB at full size), which chunks of 128 MiB do eight times as often.
LOGITS_CHUNK_ELEMENTS = 2**25
ACCELERATOR_LOGITS_CHUNK_ELEMENTS = 2**28
LOGITS_CHUNK_MIN_TOKENS = 512
IGNORE_INDEX = -100


class YuLanMiniScaledNorm(nn.Module):
    """
    RMSNorm whose output scales are folded into its weight: `scale` costs a vector's multiply, not an activation's.

    Neither its name (*RMSNorm) nor its signature (one input) is that of a norm which servers replace by their own.
    """

    def __init__(self, config: YuLanMiniConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.hidden_size))
        # CODEPATH: published checkpoints are "llama"; "gemma" (1 + weight) is the studied variant.
        self.offset = 1.0 if config.rms_type == "gemma" else 0.0
        self.variance_epsilon = config.rms_norm_eps

    def forward(self, hidden_states: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
        # In fp32 up to one rounding of the folded weight: the alphas are not rounded one by one.
        weight = self.weight.float()
        if self.offset != 0.0:
            weight = weight + self.offset
        if not isinstance(scale, float) or scale != 1.0:
            weight = weight * scale
        return nn.functional.rms_norm(
            hidden_states, weight.shape, weight.to(hidden_states.dtype), self.variance_epsilon
        )


class YuLanMiniPerHeadLayerNorm(nn.Module):
    """A LayerNorm without bias for each attention head, held one by one because that is how they are saved."""

    def __init__(self, head_dim: int, num_heads: int, eps: float):
        super().__init__()
        self.eps = eps
        self.norms = nn.ModuleList([nn.LayerNorm(head_dim, eps=eps, bias=False) for _ in range(num_heads)])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """hidden_states: (batch, heads, seq_len, head_dim)."""
        weight = torch.stack([norm.weight for norm in self.norms])[:, None, :]
        normalized = nn.functional.layer_norm(hidden_states, hidden_states.shape[-1:], eps=self.eps)
        return (normalized * weight).to(hidden_states.dtype)


class YuLanMiniAttention(nn.Module):
    """
    Grouped-query attention. The alphas of q and k act together on the keys (scores are bilinear), those of v and o on
    the values (o_proj is linear without bias): num_key_value_groups times narrower than the queries and the output.
    """

    def __init__(self, config: YuLanMiniConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.attention_multiplier
        self.attention_dropout = config.attention_dropout
        self.is_causal = True

        query_size = config.num_attention_heads * self.head_dim
        key_value_size = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_size, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, key_value_size, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, key_value_size, bias=config.attention_bias)
        self.o_proj = nn.Linear(query_size, config.hidden_size, bias=False)
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            projection.initializer_std = config.input_matrix_std
        self.o_proj.initializer_std = config.output_matrix_std

        # CODEPATH: all published YuLan-Mini checkpoints have WeSaR weights; the ablation baselines do not.
        self.wesar_weights = config.wesar_weights
        if self.wesar_weights:
            self.q_proj_alpha = nn.Parameter(torch.empty(1))
            self.k_proj_alpha = nn.Parameter(torch.empty(1))
            self.v_proj_alpha = nn.Parameter(torch.empty(1))
            self.o_proj_alpha = nn.Parameter(torch.empty(1))

        # CODEPATH: no published checkpoint has it on; the "QK LayerNorm" ablation of the report does.
        self.qk_layernorm = config.qk_layernorm
        if self.qk_layernorm:
            eps = config.layer_norm_eps
            self.q_layernorm = YuLanMiniPerHeadLayerNorm(self.head_dim, config.num_attention_heads, eps)
            self.k_layernorm = YuLanMiniPerHeadLayerNorm(self.head_dim, config.num_key_value_heads, eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        input_shape = hidden_states.shape[:-1]
        hidden_shape = (*input_shape, -1, self.head_dim)

        query_states = self.q_proj(hidden_states)
        key_states = self.k_proj(hidden_states)
        value_states = self.v_proj(hidden_states)
        if self.wesar_weights:
            if self.qk_layernorm:
                query_states = multiply_in_dtype(query_states, self.q_proj_alpha)
                key_states = multiply_in_dtype(key_states, self.k_proj_alpha)
            else:
                key_states = multiply_in_dtype(key_states, product_of_scales(1.0, self.q_proj_alpha, self.k_proj_alpha))
            value_alpha = product_of_scales(1.0, self.v_proj_alpha, self.o_proj_alpha)
            value_states = multiply_in_dtype(value_states, value_alpha)

        query_states = query_states.view(hidden_shape).transpose(1, 2)
        key_states = key_states.view(hidden_shape).transpose(1, 2)
        value_states = value_states.view(hidden_shape).transpose(1, 2)
        if self.qk_layernorm:
            query_states = self.q_layernorm(query_states)
            key_states = self.k_layernorm(key_states)

        query_states = rotate(query_states, *position_embeddings)
        key_states = rotate(key_states, *position_embeddings)
        if past_key_values is not None:
            key_states, value_states = past_key_values.update(key_states, value_states, self.layer_idx)

        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attn_output, attn_weights = attention_interface(
            self,
            query_states,
            key_states,
            value_states,
            attention_mask,
            dropout=0.0 if not self.training else self.attention_dropout,
            scaling=self.scaling,
            **kwargs,
        )
        attn_output = attn_output.reshape(*input_shape, -1).contiguous()
        return self.o_proj(attn_output), attn_weights


def rotate(states: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
    """
    Rotary embedding of states (batch, heads, seq_len, head_dim), with sin negative in its first half.

    (a, b) -> (a cos - b sin, b cos + a sin). The model puts in the sign and the dimension of the heads once for all
    layers: six operations less in each than Llama's, which pays for the alphas (benchmarks/model_step.py).
    """
    first, second = states.chunk(2, dim=-1)
    return torch.addcmul(states * cos, torch.cat((second, first), dim=-1), signed_sin)


def product_of_scales(multiplier: float, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """Product of alphas and of a constant multiplier, in fp32 and in as few kernels as it takes."""
    product = first.float()
    for alpha in others:
        product = product * alpha
    return product if multiplier == 1.0 else product * multiplier


def multiply_in_dtype(activations: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """activations * alpha in the activations' dtype: a 1-element fp32 alpha would promote them, 0-dim does not."""
    return activations * (alpha if alpha.dtype == activations.dtype else alpha.view(()))


class SumGradient(torch.autograd.Function):
    """Its input; in the backward pass, the sum of the gradients of all ranks of a group."""

    @staticmethod
    def forward(ctx, tensor, group):
        ctx.group = group
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad = grad.clone()
        torch.distributed.all_reduce(grad, group=ctx.group)
        return grad, None


class YuLanMiniAttentionParallel(TensorParallelLayer):
    """
    Tensor-parallel style of attention. Its alphas are whole on every rank but act on the rank's own heads, so their
    gradients are summed, in one message a layer. transformers' "replicated_with_grad_allreduce" would sum `.grad`: of
    gradients that are accumulated, that counts every micro-batch but the last once for each rank.
    """

    def install_forward(self, module, mesh):
        heads = module.config.num_key_value_heads
        if heads % mesh.size() != 0:
            raise ValueError(
                f"tensor parallelism over {mesh.size()} ranks cannot share out {heads} key and value heads "
                "(num_key_value_heads): choose a number of ranks that divides them."
            )
        return super().install_forward(module, mesh)

    @contextmanager
    def context_around_forward(self, module, mesh) -> Iterator[None]:
        alphas = {name: alpha for name, alpha in module.named_parameters(recurse=False) if alpha.requires_grad}
        if not alphas or not torch.is_grad_enabled():
            yield
            return
        summed = SumGradient.apply(torch.cat(list(alphas.values())), mesh.get_group())
        module._parameters.update(zip(alphas, summed.split(1), strict=True))
        try:
            yield
        finally:
            module._parameters.update(alphas)


if torch.distributed.is_available():
    ALL_PARALLEL_STYLES.register("yulanmini_attention", YuLanMiniAttentionParallel())


class YuLanMiniMLP(LlamaMLP):
    """SwiGLU feed-forward without biases, each matrix with its own initial standard deviation."""

    def __init__(self, config: YuLanMiniConfig):
        super().__init__(config)
        self.gate_proj.initializer_std = self.up_proj.initializer_std = config.input_matrix_std
        self.down_proj.initializer_std = config.output_matrix_std


class YuLanMiniDecoderLayer(GradientCheckpointingLayer):
    def __init__(self, config: YuLanMiniConfig, layer_idx: int):
        super().__init__()
        self.layer_idx = layer_idx
        self.self_attn = YuLanMiniAttention(config=config, layer_idx=layer_idx)
        self.mlp = YuLanMiniMLP(config)
        self.input_layernorm = YuLanMiniScaledNorm(config)
        self.post_attention_layernorm = YuLanMiniScaledNorm(config)
        self.ln_scale = config.ln_scale
        self.residual_multiplier = config.residual_multiplier

        # CODEPATH: all published YuLan-Mini checkpoints have WeSaR weights; the ablation baselines do not.
        self.wesar_weights = config.wesar_weights
        if self.wesar_weights:
            self.gate_up_proj_alpha = nn.Parameter(torch.empty(1))
            self.down_proj_alpha = nn.Parameter(torch.empty(1))
        # CODEPATH: published checkpoints have norm alphas; WeSaR on the matrices alone is the studied variant.
        self.use_norm_alpha = config.wesar_weights and config.use_norm_alpha
        if self.use_norm_alpha:
            self.input_layernorm_alpha = nn.Parameter(torch.empty(1))
            self.post_attention_layernorm_alpha = nn.Parameter(torch.empty(1))

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        # Both norms take the scales that follow them: their own alpha, and the MLP's input alpha.
        attention_scale = mlp_scale = self.ln_scale
        if self.wesar_weights:
            mlp_scale = product_of_scales(self.ln_scale, self.gate_up_proj_alpha)
        if self.use_norm_alpha:
            attention_scale = product_of_scales(self.ln_scale, self.input_layernorm_alpha)
            mlp_scale = mlp_scale * self.post_attention_layernorm_alpha

        residual = hidden_states
        hidden_states, _ = self.self_attn(
            hidden_states=self.input_layernorm(hidden_states, attention_scale),
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            position_embeddings=position_embeddings,
            **kwargs,
        )
        # The multiplier rides on the addition: still one kernel.
        hidden_states = torch.add(residual, hidden_states, alpha=self.residual_multiplier)

        residual = hidden_states
        hidden_states = self.mlp(self.post_attention_layernorm(hidden_states, mlp_scale))
        if self.wesar_weights:
            return torch.addcmul(residual, hidden_states, self.down_proj_alpha, value=self.residual_multiplier)
        return torch.add(residual, hidden_states, alpha=self.residual_multiplier)


class ReshapeAlpha(ConversionOps):
    """Published checkpoints hold some alphas as 0-dim tensors; FSDP2 requires one dimension."""

    def convert(self, input_dict: dict[str, Any], source_patterns, target_patterns, **kwargs) -> dict[str, Any]:
        (tensors,) = input_dict.values()
        # Two tensors for one alpha, or more than one element, are left for the shape check.
        return {target_patterns[0]: torch.cat([tensor.flatten() for tensor in tensors])}

    @property
    def reverse_op(self) -> "ReshapeAlpha":
        return self


def saved_name(name: str) -> str:
    """A parameter's name in published files: there the head's alpha lies beside `lm_head`, here in the base model."""
    return "lm_head_alpha" if name == "model.lm_head_alpha" else name


# Read on load, reversed on save.
register_checkpoint_conversion_mapping(
    YuLanMiniConfig.model_type,
    [
        WeightRenaming(r"^lm_head_alpha", r"^model\.lm_head_alpha"),
        WeightConverter("_alpha", "_alpha", operations=[ReshapeAlpha()]),
    ],
    overwrite=True,
)


# trf-ignore: TRF004 - `tie_weights` ties nothing of its own, it makes an empty model ready for accelerate
@auto_docstring
class YuLanMiniPreTrainedModel(PreTrainedModel):
    config: YuLanMiniConfig
    base_model_prefix = "model"
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str] | None] = [r"^lm_head\.weight$", r"^score\."]
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar = ["YuLanMiniDecoderLayer"]
    _skip_keys_device_placement: ClassVar = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True

    _can_compile_fullgraph = True
    _supports_attention_backend = True
    _can_record_outputs: ClassVar = {
        "hidden_states": YuLanMiniDecoderLayer,
        "attentions": YuLanMiniAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module):
        """The reported initial values; standard deviations by matrix are the config's, set at construction."""
        super()._init_weights(module)
        config = self.config
        for name, parameter in module.named_parameters(recurse=False):
            if name.endswith("_alpha"):
                init.constant_(parameter, getattr(config, name))
        if isinstance(module, YuLanMiniScaledNorm):
            init.constant_(module.weight, 1.0 - module.offset)
        # CODEPATH: published checkpoints are tied; the "tied embedding" ablation of the report compares.
        elif isinstance(module, nn.Embedding) and not config.tie_word_embeddings:
            init.normal_(module.weight, mean=0.0, std=1.0)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif hasattr(module, "initializer_std"):
            init.normal_(module.weight, mean=0.0, std=module.initializer_std)

    def _set_gradient_checkpointing(self, enable: bool = True, every_n_layers: int = 1, **kwargs) -> None:
        super()._set_gradient_checkpointing(enable=enable, every_n_layers=every_n_layers, **kwargs)
        step = self.config.gradient_checkpointing_step
        # CODEPATH: phase checkpoints name a step (11, 12, 56); without one every layer is recomputed.
        if enable and step is not None and every_n_layers == 1:
            for module in self.modules():
                if isinstance(module, YuLanMiniDecoderLayer):
                    module.gradient_checkpointing = module.layer_idx % step != 0

    def _check_and_adjust_attn_implementation(self, attn_implementation: str | None, *args, **kwargs) -> str:
        refuse_unpinned_kernel(attn_implementation)
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """
        As `PreTrainedModel.from_pretrained`, but what does not fit or is not finite is a `CheckpointError` that names
        file and tensor, except the head of another task (`score`, `lm_head`). `output_loading_info=True` reports it
        instead, `ignore_mismatched_sizes=True` allows other shapes.
        """
        source = pretrained_model_name_or_path
        if source is None:  # tensors handed over as `state_dict=` are the caller's to judge
            return super().from_pretrained(source, *model_args, **kwargs)
        wants_info = kwargs.pop("output_loading_info", False)
        ignores_sizes = kwargs.pop("ignore_mismatched_sizes", False)
        try:
            model, info = super().from_pretrained(
                source, *model_args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except SafetensorError as error:
            raise CheckpointError(
                f"{_unreadable_file(source)}: truncated or corrupt ({error}). Copy it again."
            ) from error

        # With accelerate's RAM-efficient loading one rank a node reads the weights; those of the others hold anything.
        is_read = not is_fsdp_enabled() or int(os.environ.get("LOCAL_RANK", "0")) == 0
        tensors = model.named_parameters() if is_read else ()
        info["not_finite_keys"] = {name for name, tensor in tensors if not _is_finite(tensor)}
        problems: dict[str, str] = {}
        if not ignores_sizes:
            for name, found, expected in sorted(info["mismatched_keys"]):
                problems[name] = f"has shape {tuple(found)}, the config asks for {tuple(expected)}"
        if not wants_info:
            missing = (name for name in info["missing_keys"] if not name.startswith("score."))
            problems |= dict.fromkeys(sorted(missing), "is not in the weights, but the config asks for it")
            problems |= dict.fromkeys(sorted(info["unexpected_keys"]), "is not used by a model of this config")
            problems |= dict.fromkeys(sorted(info["not_finite_keys"]), "holds NaN or infinity")
            # transformers unties, with a warning, a head that is not what the config says.
            ties_head = model.config.tie_word_embeddings and "lm_head.weight" in (model._tied_weights_keys or {})
            if ties_head and isinstance(model.get_output_embeddings(), nn.Linear) and not model.all_tied_weights_keys:
                problems["lm_head.weight"] = "is not 'model.embed_tokens.weight', but tie_word_embeddings is true"
        for name, problem in problems.items():
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise CheckpointError(
                f"{_file_of(source, name)}: tensor '{name}' {problem}{more}. Config and weights are of different "
                "models, or a file is damaged or missing."
            )
        return (model, info) if wants_info else model

    def tie_weights(self, missing_keys: set[str] | None = None, recompute_mapping: bool = True):
        super().tie_weights(missing_keys=missing_keys, recompute_mapping=recompute_mapping)
        # A caller ties an empty model before accelerate fills it, which goes by the names in the file: until the first
        # forward pass the head's alpha has its name there, without the base model's prefix. FSDP's efficient loading
        # ties an empty model too, but goes by the names in the model.
        base = self.base_model
        alpha = getattr(base, "lm_head_alpha", None)
        if recompute_mapping and base is not self and alpha is not None and alpha.is_meta and not is_fsdp_enabled():
            self.lm_head_alpha = alpha
            del base.lm_head_alpha

            def give_back(*_args) -> None:
                base.lm_head_alpha = self.lm_head_alpha
                del self.lm_head_alpha
                hook.remove()

            hook = base.register_forward_pre_hook(give_back)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """`load_state_dict` takes saved files too: published names and shapes, as `from_pretrained` does."""
        published, held = f"{prefix}lm_head_alpha", f"{prefix}{self.base_model_prefix}.lm_head_alpha"
        if published in state_dict and self.base_model is not self:
            state_dict[held] = state_dict.pop(published)
        for name, tensor in list(state_dict.items()):
            if name.startswith(prefix) and name.endswith("_alpha") and tensor.dim() == 0:
                state_dict[name] = tensor.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As `PreTrainedModel.save_pretrained`; this file and the config's go along, for `trust_remote_code`."""
        self.config.auto_map = dict(AUTO_MAP)
        return super().save_pretrained(save_directory, *args, **kwargs)


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether no element is NaN or infinite; quantized values, and what is offloaded, are not looked at."""
    tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    if tensor.is_meta or not tensor.is_floating_point() or tensor.dtype.itemsize < 2 or tensor.numel() == 0:
        return True
    # One pass without a tensor of truth values, which isfinite().all() would make.
    return all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor))


def _file_of(source, tensor: str) -> str:
    """The weight file that holds `tensor`, as far as a local folder's index tells; else `source`."""
    file = Path(source) / "model.safetensors.index.json"
    if file.is_file():
        return str(file.with_name(json.loads(file.read_text())["weight_map"].get(saved_name(tensor), file.name)))
    file = file.with_name("model.safetensors")
    return str(file if file.is_file() else source)


def _unreadable_file(source) -> str:
    """The first weight file of a local folder that safetensors cannot open; else `source`."""
    for path in sorted(Path(source).glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError:
            return str(path)
    return str(source)


@auto_docstring
class YuLanMiniModel(YuLanMiniPreTrainedModel):
    _auto_class = "AutoModel"

    def __init__(self, config: YuLanMiniConfig):
        super().__init__(config)
        self.embedding_multiplier = config.scale_emb
        self.ln_scale = config.ln_scale
        self.logits_multiplier = config.logits_multiplier

        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        # CODEPATH: no published checkpoint normalises embeddings; the "embedding LayerNorm" ablation does.
        if config.embedding_ln:
            self.embedding_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
        # CODEPATH: its variant with an RMSNorm.
        elif config.embedding_rmsln:
            self.embedding_layernorm = YuLanMiniScaledNorm(config)
        self.layers = nn.ModuleList(
            [YuLanMiniDecoderLayer(config, layer_idx) for layer_idx in range(config.num_hidden_layers)]
        )
        self.norm = YuLanMiniScaledNorm(config)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False

        # CODEPATH: all published YuLan-Mini checkpoints have WeSaR weights; the ablation baselines do not.
        self.wesar_weights = config.wesar_weights
        if self.wesar_weights:
            self.lm_head_alpha = nn.Parameter(torch.empty(1))
        # CODEPATH: published checkpoints have norm alphas; WeSaR on the matrices alone is the studied variant.
        self.use_norm_alpha = config.wesar_weights and config.use_norm_alpha
        if self.use_norm_alpha:
            self.norm_alpha = nn.Parameter(torch.empty(1))

        # Initialize weights and apply final processing
        self.post_init()

    def scale_embeddings(self, inputs_embeds: torch.Tensor) -> torch.Tensor:
        """Token embeddings (batch_size, seq_len, hidden_size) as the first layer takes them."""
        inputs_embeds = inputs_embeds * self.embedding_multiplier
        # CODEPATH: no published checkpoint normalises embeddings; the "embedding LayerNorm" ablation does.
        if self.config.embedding_ln:
            return self.embedding_layernorm(inputs_embeds)
        # CODEPATH: its variant with an RMSNorm, the only one of the two that `ln_scale` multiplies.
        if self.config.embedding_rmsln:
            return self.embedding_layernorm(inputs_embeds, self.ln_scale)
        return inputs_embeds

    @merge_with_config_defaults
    @capture_outputs
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        seq_idx: torch.IntTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        r"""
        seq_idx (`torch.IntTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Packed rows: the index of the document that each token belongs to. See below.

        `last_hidden_state` is multiplied by the head's alpha (and by `dim_model_base_logits` / `hidden_size`): logits
        are `lm_head.weight` times it, nothing else. `inputs_embeds` are multiplied by `scale_emb` as the embeddings of
        `input_ids` are.

        **Packed rows.** Pass no `attention_mask`, and either `position_ids` that restart at 0 in every document, or
        `seq_idx` or `cu_seq_lens_q` (cumulative document lengths over the flattened batch, starting with 0) for
        positions that run on across the row; `position_ids` given beside these are used for RoPE as they are. Flash
        attention cuts by `cu_seq_lens_q`, `cu_seq_lens_k`, `max_length_q` and `max_length_k` where all four are given.
        """
        if (input_ids is None) ^ (inputs_embeds is not None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")

        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        # Later pipeline stages, which hold no first layer, are handed hidden states as `inputs_embeds`.
        if not isinstance(self.layers[0], nn.Identity):
            inputs_embeds = self.scale_embeddings(inputs_embeds)

        batch_size, seq_length = inputs_embeds.shape[:2]
        # What masks and varlen attention cut documents by; RoPE may use other positions.
        document_positions = position_ids
        if (cu_seq_lens := kwargs.get("cu_seq_lens_q")) is not None and seq_idx is None:
            seq_idx = document_index(cu_seq_lens, batch_size, seq_length)
        if seq_idx is not None:
            document_positions = restarting_positions(seq_idx)
        if position_ids is None:
            past_seen_tokens = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(seq_length, device=inputs_embeds.device) + past_seen_tokens
            position_ids = position_ids.unsqueeze(0)

        # Before a new cache is made: create_causal_mask looks for packed documents only where there is none.
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=document_positions,
        )
        # No mask although documents may be packed: flash attention, which in more than one row cuts where it is told.
        is_packable = document_positions is not None and attention_mask is None and past_key_values is None
        if causal_mask is None and is_packable and batch_size > 1 and kwargs.get("max_length_k") is None:
            kwargs.update(variable_length_arguments(document_positions.expand(batch_size, -1)))
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)

        hidden_states = inputs_embeds
        cos, sin = self.rotary_emb(hidden_states, position_ids=position_ids)
        first, second = sin.chunk(2, dim=-1)
        position_embeddings = cos.unsqueeze(1), torch.cat((-first, second), dim=-1).unsqueeze(1)
        for decoder_layer in self.layers[: self.config.num_hidden_layers]:
            hidden_states = decoder_layer(
                hidden_states,
                attention_mask=causal_mask,
                position_ids=position_ids if document_positions is None else document_positions,
                past_key_values=past_key_values,
                use_cache=use_cache,
                position_embeddings=position_embeddings,
                **kwargs,
            )

        scale = self.ln_scale * self.logits_multiplier
        if self.wesar_weights:
            scale = product_of_scales(scale, self.lm_head_alpha)
        if self.use_norm_alpha:
            scale = scale * self.norm_alpha
        hidden_states = self.norm(hidden_states, scale)

        return BaseModelOutputWithPast(
            last_hidden_state=hidden_states,
            past_key_values=past_key_values,
        )


def document_index(cu_seq_lens: torch.Tensor, batch_size: int, seq_length: int) -> torch.Tensor:
    """Index of the document of each token, (batch_size, seq_length), from cumulative lengths over the flat batch."""
    tokens = torch.arange(batch_size * seq_length, device=cu_seq_lens.device)
    return torch.bucketize(tokens, cu_seq_lens[1:], right=True).view(batch_size, seq_length)


def restarting_positions(seq_idx: torch.Tensor) -> torch.Tensor:
    """Positions that restart at 0 with every document of every row, (batch_size, seq_length)."""
    tokens = torch.arange(seq_idx.shape[1], device=seq_idx.device).expand_as(seq_idx)
    is_start = nn.functional.pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, 0), value=True)
    return tokens - torch.where(is_start, tokens, 0).cummax(dim=1).values


def variable_length_arguments(position_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What flash attention cuts the flat batch by, from positions (batch_size, seq_length) that restart somewhere."""
    seq_idx = nn.functional.pad(position_ids.diff(dim=1) != 1, (1, 0), value=False).cumsum(1)
    cu_seq_lens, max_lengths = prepare_fa_kwargs_from_position_ids(restarting_positions(seq_idx))
    names = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
    return dict(zip(names, (*cu_seq_lens, *max_lengths), strict=True))


def logits_chunk_tokens(vocab_size: int, device_type: str) -> int:
    """Tokens whose logits exist at once."""
    elements = LOGITS_CHUNK_ELEMENTS if device_type == "cpu" else ACCELERATOR_LOGITS_CHUNK_ELEMENTS
    return max(elements // vocab_size, LOGITS_CHUNK_MIN_TOKENS)


def chunk_terms(
    logits: torch.Tensor, targets: torch.Tensor, z_loss: float, needs_grad: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """
    Of logits (tokens, vocab_size): the summed loss and its z-loss term, fp32 scalars, and the loss's gradient in the
    logits' dtype. Nothing here waits for the device; the logits may be overwritten.
    """
    counted = targets != IGNORE_INDEX
    index = torch.where(counted, targets, 0).unsqueeze(1)
    dtype, logits = logits.dtype, logits.float()
    target_logits = logits.gather(1, index).squeeze(1)
    maxima = logits.amax(dim=1, keepdim=True)
    exponentials = logits.sub_(maxima).exp_()
    sums = exponentials.sum(dim=1)
    lse = maxima.squeeze(1) + sums.log()
    z_term = torch.where(counted, z_loss * lse.square(), 0).sum()
    loss = torch.where(counted, lse - target_logits, 0).sum() + z_term
    if not needs_grad:
        return loss, z_term, None
    # d/dlogits = softmax * (1 + 2 z lse) - one_hot(target)
    row_factor = torch.where(counted, (1 + 2 * z_loss * lse) / sums, 0)
    grad_logits = exponentials.mul_(row_factor.unsqueeze(1))
    grad_logits.scatter_add_(1, index, -counted.to(grad_logits.dtype).unsqueeze(1))
    return loss, z_term, grad_logits.to(dtype)


def add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total += left @ right, in the dtype of `total`: bfloat16 would lose an addend below 1/256 of the sum."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    elif total.is_cuda:  # summed within the matrix product: the addend is neither rounded nor written
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.add_(left @ right)


class ChunkedLinearCrossEntropy(torch.autograd.Function):
    """
    Sum over tokens of -log softmax(hidden @ weight.T)[target] + z_loss * logsumexp^2, and the second term alone.

    Logits exist for one chunk of tokens at a time; gradients are computed with the loss, so none is computed twice.
    """

    # A trainer that compiles puts the compiled function here: one pass over the logits in place of eight.
    chunk_terms: ClassVar[Callable] = staticmethod(chunk_terms)

    @staticmethod
    def forward(ctx, hidden_states, weight, targets, z_loss, chunk_tokens, grad_hidden_states, grad_weight):
        """
        hidden_states (tokens, hidden_size); weight (vocab_size, hidden_size), cast to their dtype; targets (tokens,)
        with IGNORE_INDEX for tokens that do not count; the last two are buffers to fill, or None where none is needed.
        """
        matrix = weight.to(hidden_states.dtype)
        needs_grad = grad_hidden_states is not None or grad_weight is not None
        loss = hidden_states.new_zeros((), dtype=torch.float32)
        z_term = hidden_states.new_zeros((), dtype=torch.float32)
        for start in range(0, hidden_states.shape[0], chunk_tokens):
            hidden_chunk = hidden_states[start : start + chunk_tokens]
            chunk_loss, chunk_z, grad_logits = ChunkedLinearCrossEntropy.chunk_terms(
                hidden_chunk @ matrix.t(), targets[start : start + chunk_tokens], z_loss, needs_grad
            )
            loss, z_term = loss + chunk_loss, z_term + chunk_z
            if grad_hidden_states is not None:
                grad_hidden_states[start : start + chunk_tokens] = grad_logits @ matrix
            if grad_weight is not None:
                add_product(grad_weight, grad_logits.t(), hidden_chunk)
        ctx.weight_dtype = weight.dtype
        ctx.save_for_backward(grad_hidden_states, grad_weight)
        ctx.mark_non_differentiable(z_term)
        return loss, z_term

    @staticmethod
    def backward(ctx, grad_loss, _grad_z_term):
        # Not `once_differentiable`: it lets pass a `grad_loss` that is a constant, as in `loss.backward()`.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the gradients of the chunked loss are computed with it and cannot be differentiated again "
                "(create_graph=True): take that of the logits, model.loss_function(model(input_ids).logits, labels)."
            )
        grad_hidden_states, grad_weight = (
            None if grad is None else grad * grad_loss.to(grad.dtype) for grad in ctx.saved_tensors
        )
        if grad_weight is not None:
            grad_weight = grad_weight.to(ctx.weight_dtype)
        return grad_hidden_states, grad_weight, None, None, None, None, None


def linear_cross_entropy(
    hidden_states: torch.Tensor,
    lm_head: nn.Module,
    targets: torch.Tensor,
    *,
    z_loss: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Cross-entropy with z-loss of `lm_head(hidden_states)`, without ever holding the logits of all tokens.

    Value and gradients are those of the ordinary loss on fp32 logits; the chunks' weight gradients are added in fp32.
    The host never waits for the device. A head that is not a plain `nn.Linear` (LoRA, quantized, sharded) is called
    chunk by chunk, so that nothing around its weight is lost.

    Args:
        hidden_states: (tokens, hidden_size).
        targets: (tokens,), int64; -100 marks tokens that do not count.
        z_loss: coefficient of the squared log-sum-exp.

    Returns:
        The sum over tokens of both terms, and the z-loss term alone without gradient: fp32 scalars.
    """
    device = hidden_states.device.type
    weight = getattr(lm_head, "weight", None)
    is_plain = (
        type(lm_head) is nn.Linear
        and lm_head.bias is None
        and type(weight) in (nn.Parameter, torch.Tensor)
        and "forward" not in lm_head.__dict__
        and not lm_head._forward_hooks
        and not lm_head._forward_pre_hooks
    )
    vocab_size = lm_head.out_features if hasattr(lm_head, "out_features") else weight.shape[0]
    chunk_tokens = logits_chunk_tokens(vocab_size, device)

    if not is_plain:
        loss = z_term = torch.zeros((), device=hidden_states.device)
        for chunk in zip(hidden_states.split(chunk_tokens), targets.split(chunk_tokens), strict=True):
            chunk_loss, chunk_z = checkpoint(_chunk_loss, lm_head, *chunk, z_loss, use_reentrant=False)
            loss, z_term = loss + chunk_loss, z_term + chunk_z.detach()
        return loss, z_term

    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    hidden_states = hidden_states.to(dtype)

    needs_grad = torch.is_grad_enabled()
    grad_hidden_states = torch.empty_like(hidden_states) if needs_grad and hidden_states.requires_grad else None
    accumulator_dtype = torch.promote_types(weight.dtype, torch.float32)
    grad_weight = torch.zeros_like(weight, dtype=accumulator_dtype) if needs_grad and weight.requires_grad else None
    return ChunkedLinearCrossEntropy.apply(
        hidden_states, weight, targets, z_loss, chunk_tokens, grad_hidden_states, grad_weight
    )


def _chunk_loss(
    lm_head: nn.Module, hidden_states: torch.Tensor, targets: torch.Tensor, z_loss: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = lm_head(hidden_states).float()
    z_term = z_loss * torch.where(targets != IGNORE_INDEX, logits.logsumexp(dim=-1).square(), 0).sum()
    cross_entropy = nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return cross_entropy + z_term, z_term


@auto_docstring(custom_intro="Outputs of the causal language model, with the z-loss part of the loss.")
@dataclass
class YuLanMiniCausalLMOutputWithPast(CausalLMOutputWithPast):
    r"""
    loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is provided):
        Next-token cross-entropy plus z-loss.
    logits (`torch.FloatTensor` of shape `(batch_size, sequence_length, config.vocab_size)`, *optional*):
        Scores of each vocabulary token. None where they were not computed (`skip_logits`).
    past_key_values (`Cache`, *optional*, returned when `use_cache=True`):
        Keys and values of the attention layers. The values carry the output scale of their layer.
    z_loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is provided):
        The part of `loss` that is z-loss, without gradient: `loss - z_loss` is the cross-entropy.
    """

    z_loss: torch.FloatTensor | None = None


@auto_docstring
class YuLanMiniForCausalLM(YuLanMiniPreTrainedModel, GenerationMixin):
    _tied_weights_keys: ClassVar = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan: ClassVar = {"lm_head": "colwise_gather_output"}
    _pp_plan: ClassVar = {"lm_head": (["hidden_states"], ["logits"])}
    _fsdp_plan: ClassVar = {"lm_head": "keep_full_weight"}
    _keys_to_ignore_on_load_unexpected = None
    _auto_class = "AutoModelForCausalLM"

    def __init__(self, config: YuLanMiniConfig):
        super().__init__(config)
        self.model = YuLanMiniModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.lm_head.initializer_std = config.head_std

        # Initialize weights and apply final processing
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        skip_logits: bool | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> YuLanMiniCausalLMOutputWithPast:
        r"""
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Tokens of which each is predicted from those before it (the model shifts them); -100 does not count.
        skip_logits (`bool`, *optional*):
            Whether to leave the logits out. By default they are left out in training mode when there are labels: the
            loss is computed without them, and at a batch of training size they would be the largest tensor of all.
        num_items_in_batch (`torch.Tensor` or `int`, *optional*):
            What the summed loss is divided by; by default the number of labels that count in this call. With gradient
            accumulation or several ranks, the number in the whole step.

        `shift_labels`, labels that are shifted already, may be given in place of `labels`.
        """
        # Not in the signature: transformers' Trainer would take it for a label that every batch must have.
        shift_labels = kwargs.pop("shift_labels", None)
        has_labels = labels is not None or shift_labels is not None
        # A cache is of no use where a loss is asked for, and every layer's keys and values would live in it.
        if has_labels and use_cache is None:
            use_cache = False
        outputs: BaseModelOutputWithPast = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state

        if skip_logits is None:
            skip_logits = self.training and has_labels
        logits = None if skip_logits else self.lm_head(slice_logits_to_keep(hidden_states, logits_to_keep))
        loss = z_loss = None
        if has_labels:
            loss, z_loss = self.loss_from_hidden_states(hidden_states, labels, num_items_in_batch, shift_labels)

        return YuLanMiniCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            z_loss=z_loss,
        )

    def loss_from_hidden_states(
        self,
        hidden_states: torch.Tensor,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        shift_labels: torch.LongTensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of the base model's last hidden state (batch_size, seq_len, hidden_size), and its z-loss part."""
        hidden_states = hidden_states.reshape(-1, hidden_states.shape[-1])
        targets, count = targets_and_count(labels, shift_labels, num_items_in_batch, hidden_states.device)
        loss, z_term = linear_cross_entropy(hidden_states, self.lm_head, targets, z_loss=self.config.z_loss or 0.0)
        return loss / count, z_term / count

    def loss_function(
        self,
        logits: torch.Tensor,
        labels: torch.LongTensor | None = None,
        vocab_size: int | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        shift_labels: torch.LongTensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """The same loss for code that holds logits and calls this, as transformers' models allow: z-loss included."""
        targets, count = targets_and_count(labels, shift_labels, num_items_in_batch, logits.device)
        return _chunk_loss(nn.Identity(), logits.flatten(0, -2), targets, self.config.z_loss or 0.0)[0] / count


def targets_and_count(
    labels: torch.LongTensor | None,
    shift_labels: torch.LongTensor | None,
    num_items_in_batch: torch.Tensor | int | None,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor | int]:
    """For each token the one that follows it in its row, and what the summed loss is divided by."""
    targets = nn.functional.pad(labels, (0, 1), value=IGNORE_INDEX)[..., 1:] if shift_labels is None else shift_labels
    targets = targets.reshape(-1).to(device)
    if num_items_in_batch is None:
        return targets, (targets != IGNORE_INDEX).sum().clamp(min=1)
    return targets, num_items_in_batch.to(device) if torch.is_tensor(num_items_in_batch) else num_items_in_batch


@auto_docstring
class YuLanMiniForSequenceClassification(GenericForSequenceClassification, YuLanMiniPreTrainedModel):
    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: YuLanMiniConfig):
        # The generic head builds its base model through AutoModel, which knows no class of a remote-code folder.
        super(GenericForSequenceClassification, self).__init__(config)
        self.num_labels = config.num_labels
        self.model = YuLanMiniModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)

        # Initialize weights and apply final processing
        self.post_init()


# Class names in the `auto_map` of published configs.
YuLanMiniModelForCausalLM = YuLanMiniForCausalLM
MiniYuLanModelForCausalLM = YuLanMiniForCausalLM

AUTO_MAP = {
    "AutoConfig": "configuration_yulanmini.YuLanMiniConfig",
    "AutoModel": "modeling_yulanmini.YuLanMiniModel",
    "AutoModelForCausalLM": "modeling_yulanmini.YuLanMiniForCausalLM",
    "AutoModelForSequenceClassification": "modeling_yulanmini.YuLanMiniForSequenceClassification",
}

__all__ = [
    "YuLanMiniForCausalLM",
    "YuLanMiniForSequenceClassification",
    "YuLanMiniModel",
    "YuLanMiniPreTrainedModel",
]
