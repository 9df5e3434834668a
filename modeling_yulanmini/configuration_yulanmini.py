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
"""Configuration of YuLan-Mini before its scales are merged: a Llama with muP multipliers and WeSaR alphas.

A key that a config leaves out means what it meant to the code the checkpoints were trained with (no muP, alphas of 1);
the values that YuLan-Mini was trained with come from `YuLanMiniConfig.reparametrized()`.
"""
# Fields that may be None in a file are filled in by __post_init__, which mypy does not see.
# mypy: disable-error-code="operator,arg-type,union-attr"

import math
from os import PathLike
from typing import Any, ClassVar

import transformers

# Looked at before anything is imported that an older version lacks.
if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 22):
    raise ImportError(
        f"YuLan-Mini's code needs transformers 5.22 or newer, found {transformers.__version__}: "
        "pip install --upgrade transformers"
    )

from transformers.configuration_utils import PreTrainedConfig, strict
from transformers.modeling_rope_utils import RopeParameters
from transformers.utils import auto_docstring

# What a config file may ask for. Any other name makes transformers fetch a kernel from the Hub and run it.
ATTENTION_IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention", *(f"flash_attention_{n}" for n in (2, 3, 4)))


class CheckpointError(RuntimeError, ValueError):
    """
    A config (for transformers a ValueError) or weights (a RuntimeError) that cannot be used as they are. The message
    names the file, the key or tensor, and what to do.
    """


def refuse_unsafe_keys(content: dict[str, Any], *, where: str = "config", own_repository: str = "") -> None:
    """
    Raise `CheckpointError` for what makes transformers run code that is neither here nor beside the weights.

    Args:
        content: what a config file says, not what a user's argument adds.
        own_repository: where it came from; transformers puts that in front of the names of its files.
    """
    for key, value in content.items():
        if key.endswith("_internal"):
            raise CheckpointError(f"{where}: key '{key}' can make transformers fetch and run code: remove it.")
        if key in ("attn_implementation", "_attn_implementation") and value not in (None, *ATTENTION_IMPLEMENTATIONS):
            raise CheckpointError(
                f"{where}: key '{key}' is {value!r}, expected one of {', '.join(ATTENTION_IMPLEMENTATIONS)}; any other "
                "may only be passed to from_pretrained."
            )
    auto_map = content.get("auto_map") or {}
    if not isinstance(auto_map, dict):
        raise CheckpointError(f"{where}: key 'auto_map' is {auto_map!r}, expected an object of class names.")
    for auto_class, reference in auto_map.items():
        for target in reference if isinstance(reference, (list, tuple)) else [reference]:
            repository, separator, _ = str(target or "").partition("--")
            if separator and repository != own_repository:
                raise CheckpointError(
                    f"{where}: key 'auto_map.{auto_class}' names code in another repository ({target!r}): put it "
                    "beside the weights, or remove the key."
                )


def refuse_unpinned_kernel(attn_implementation: str | None) -> None:
    """Raise `CheckpointError` for attention code from the Hub, `owner/name`, that may be other code tomorrow."""
    if attn_implementation is not None and "/" in attn_implementation and "@" not in attn_implementation:
        raise CheckpointError(
            f"attn_implementation is {attn_implementation!r}, code from the Hub without a revision. Write "
            f"'{attn_implementation}@REVISION', with a commit hash that you have looked at."
        )


@auto_docstring(checkpoint="yulan-team/YuLan-Mini-Before-Annealing")
@strict
class YuLanMiniConfig(PreTrainedConfig):
    r"""
    scale_emb (`float`, *optional*, defaults to 1):
        Multiplier of the token embeddings (10 in YuLan-Mini; Table 3 of the report).
    hidden_states_shrink (`float` or `str`, *optional*, defaults to 1):
        Multiplier of both branches before the residual add (1.4 / sqrt(n_layers) in YuLan-Mini). Only values in
        [0, 1) act; `"muparam"` stands for 1 / sqrt(n_layers).
    dim_model_base_attn (`float`, *optional*):
        The softmax scale is sqrt(dim_model_base_attn) / head_dim; by default head_dim, that is 1 / sqrt(head_dim).
        1 gives CerebrasGPT's 1 / head_dim.
    dim_model_base_logits (`float`, *optional*):
        Logits are divided by hidden_size / dim_model_base_logits; by default hidden_size, that is not at all.
    dim_model_base_lr (`float`, *optional*):
        Base width of the learning-rate groups (m_width = hidden_size / dim_model_base_lr); read by the trainer only.
    dim_model_base_init (`float`, *optional*):
        Base width of the initial standard deviations, for muP without WeSaR. None: every matrix starts at
        `initializer_range`.
    dim_model_base_lmh (`float`, *optional*):
        An untied head starts at initializer_range / sqrt(dim_model_base_lmh).
    init_scale_o (`float`, *optional*, defaults to 10.582218):
        Divisor of the initial standard deviation of o_proj and down_proj.
    model_reproduce (`str`, *optional*, defaults to `"transformer"`):
        Which of the report's Table 3 columns the initial values follow: `"transformer"` (flat, ignores the three keys
        above), `"cerebras"` (YuLan-Mini's own), `"minicpm"`.
    wesar_weights (`bool`, *optional*, defaults to `True`):
        Whether every matrix carries a learnable scalar, W = alpha * W~ (WeSaR; section 3.2 of the report).
    use_norm_alpha (`bool`, *optional*, defaults to `True`):
        Whether the norms carry one too.
    q_proj_alpha (`float`, *optional*, defaults to 1):
        Initial value of the scalar on the query projection's output, bias included.
    k_proj_alpha (`float`, *optional*, defaults to 1):
        The same for the key projection.
    v_proj_alpha (`float`, *optional*, defaults to 1):
        The same for the value projection.
    o_proj_alpha (`float`, *optional*, defaults to 1):
        Initial value of the scalar on the attention output.
    gate_up_proj_alpha (`float`, *optional*, defaults to 1):
        Initial value of the scalar on the MLP's input, shared by gate and up.
    down_proj_alpha (`float`, *optional*, defaults to 1):
        Initial value of the scalar on the MLP's output.
    input_layernorm_alpha (`float`, *optional*, defaults to 1):
        Initial value of the scalar on the attention norm's output.
    post_attention_layernorm_alpha (`float`, *optional*, defaults to 1):
        Initial value of the scalar on the MLP norm's output.
    norm_alpha (`float`, *optional*, defaults to 1):
        Initial value of the scalar on the final norm's output.
    lm_head_alpha (`float`, *optional*, defaults to 1):
        Initial value of the scalar on the hidden states that enter the head.
    qk_layernorm (`bool`, *optional*, defaults to `False`):
        Whether queries and keys pass a LayerNorm of their own for each head, without bias, before RoPE.
    layer_norm_eps (`float`, *optional*, defaults to 1e-6):
        Epsilon of those and of `embedding_ln`.
    rms_type (`str`, *optional*, defaults to `"llama"`):
        `"llama"` multiplies by weight, `"gemma"` by 1 + weight.
    embedding_ln (`bool`, *optional*, defaults to `False`):
        Whether the scaled embeddings pass a LayerNorm without bias.
    embedding_rmsln (`bool`, *optional*, defaults to `False`):
        Whether they pass an RMSNorm, times `ln_scale`. Excludes `embedding_ln`.
    ln_scale (`float`, *optional*, defaults to 1.0):
        Multiplier of every RMSNorm's output.
    z_loss (`float`, *optional*, defaults to 1e-4):
        Coefficient of the mean squared log-sum-exp of the logits in the loss.
    gradient_checkpointing_step (`int`, *optional*):
        With activation checkpointing on, layers whose index is a multiple of it keep their activations and the others
        are recomputed (the published rule). None recomputes every layer.
    """

    model_type = "yulanmini"
    mlp_bias: ClassVar = False
    keys_to_ignore_at_inference: ClassVar = ["past_key_values", "z_loss"]
    base_model_tp_plan: ClassVar = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
        # Last: vLLM takes the first pattern that a module's name begins with.
        "layers.*.self_attn": "yulanmini_attention",
    }
    base_model_pp_plan: ClassVar = {
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }

    vocab_size: int = 99000
    hidden_size: int = 1920
    intermediate_size: int = 4800
    num_hidden_layers: int = 56
    num_attention_heads: int = 30
    num_key_value_heads: int | None = 6
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 4096
    initializer_range: float = 0.014434
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    rope_parameters: RopeParameters | dict | None = None
    attention_bias: bool = True
    attention_dropout: float | int | None = 0.0

    scale_emb: float | int | None = 1
    hidden_states_shrink: float | int | str | None = 1
    dim_model_base_attn: float | int | None = None
    dim_model_base_logits: float | int | None = None
    dim_model_base_lr: float | int | None = None
    dim_model_base_init: float | int | None = None
    dim_model_base_lmh: float | int | None = None
    init_scale_o: float | int | None = 10.582218
    model_reproduce: str | None = "transformer"

    wesar_weights: bool = True
    use_norm_alpha: bool = True
    q_proj_alpha: float | int = 1
    k_proj_alpha: float | int = 1
    v_proj_alpha: float | int = 1
    o_proj_alpha: float | int = 1
    gate_up_proj_alpha: float | int = 1
    down_proj_alpha: float | int = 1
    input_layernorm_alpha: float | int = 1
    post_attention_layernorm_alpha: float | int = 1
    norm_alpha: float | int = 1
    lm_head_alpha: float | int = 1

    qk_layernorm: bool = False
    layer_norm_eps: float = 1e-6
    rms_type: str = "llama"
    embedding_ln: bool = False
    embedding_rmsln: bool = False
    ln_scale: float | int = 1.0
    z_loss: float | int | None = 1e-4

    gradient_checkpointing_step: int | None = None

    def __post_init__(self, **kwargs):
        self._refuse_impossible_numbers()
        if kwargs.pop("use_sliding_window", False):
            raise CheckpointError("config key 'use_sliding_window' is true, but this model has full attention only.")
        kwargs.pop("sliding_window", None)

        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
        self.scale_emb = 1 if self.scale_emb is None else self.scale_emb
        self.attention_dropout = self.attention_dropout or 0.0
        if self.hidden_states_shrink == "muparam":
            self.hidden_states_shrink = 1 / math.sqrt(self.num_hidden_layers)
        self.dim_model_base_attn = self.dim_model_base_attn or self.head_dim
        self.dim_model_base_logits = self.dim_model_base_logits or self.hidden_size
        self.dim_model_base_lr = self.dim_model_base_lr or self.hidden_size

        if self.qk_layernorm:
            # Its weights are held head by head: the matrices are shared out, attention itself is whole on every rank.
            plan = {f"layers.*.self_attn.{name}": "colwise_gather_output" for name in ("q_proj", "k_proj", "v_proj")}
            plan = {**self.base_model_tp_plan, **plan, "layers.*.self_attn.o_proj": "rowwise_split_input"}
            del plan["layers.*.self_attn"]
            self.base_model_tp_plan = plan  # type: ignore[misc]

        super().__post_init__(**kwargs)

    def _refuse_impossible_numbers(self) -> None:
        """Sizes below 1 and bases that are not positive: no formula below is meant for them."""
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings")
        for name in (*sizes, "num_attention_heads", "num_key_value_heads", "head_dim", "gradient_checkpointing_step"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CheckpointError(f"{name} is {value}, expected at least 1.")
        for name in ("attn", "logits", "lr", "init", "lmh"):
            value = getattr(self, f"dim_model_base_{name}")
            if value is not None and value <= 0:
                raise CheckpointError(f"dim_model_base_{name} is {value}, expected a number above 0, or null.")

    def validate_architecture(self):
        """Part of `@strict`-powered validation. Validates the architecture of the config."""
        for whole, part in (("hidden_size", "num_attention_heads"), ("num_attention_heads", "num_key_value_heads")):
            multiple, divisor = getattr(self, whole), getattr(self, part)
            if multiple % divisor != 0:
                raise CheckpointError(f"{whole} ({multiple}) is not a multiple of {part} ({divisor}).")
        if self.rms_type not in ("llama", "gemma"):
            raise CheckpointError(f"rms_type is {self.rms_type!r}, expected 'llama' or 'gemma'.")
        if self.embedding_ln and self.embedding_rmsln:
            raise CheckpointError("embedding_ln and embedding_rmsln are both true: choose one.")
        if isinstance(shrink := self.hidden_states_shrink, str):
            raise CheckpointError(f"hidden_states_shrink is {shrink!r}, expected a number or 'muparam'.")
        rope_theta = self.rope_parameters.get("rope_theta")
        if not isinstance(rope_theta, (int, float)) or not 0 < rope_theta < math.inf:
            raise CheckpointError(f"rope_theta is {rope_theta!r}, expected a number above 0.")

    @property
    def residual_multiplier(self) -> float:
        """`hidden_states_shrink` where it acts (values in [0, 1)), else 1."""
        shrink = self.hidden_states_shrink
        return float(shrink) if shrink is not None and 0 <= shrink < 1 else 1.0

    @property
    def attention_multiplier(self) -> float:
        """Softmax scale, sqrt(dim_model_base_attn) / head_dim."""
        return math.sqrt(self.dim_model_base_attn) / self.head_dim

    @property
    def logits_multiplier(self) -> float:
        """dim_model_base_logits / hidden_size: what the hidden states are multiplied by before the head."""
        return self.dim_model_base_logits / self.hidden_size

    @property
    def input_matrix_std(self) -> float:
        """Initial standard deviation of q, k, v, gate and up (Table 3): by width where `dim_model_base_init` is set."""
        if self.model_reproduce == "transformer" or self.dim_model_base_init is None:
            return self.initializer_range
        return self.initializer_range / math.sqrt(self.hidden_size / self.dim_model_base_init)

    @property
    def output_matrix_std(self) -> float:
        """The same for o and down: `init_scale_o`, and by depth too, except in MiniCPM's column."""
        if self.model_reproduce == "transformer":
            return self.initializer_range
        by_depth = self.model_reproduce == "cerebras" and self.dim_model_base_init is not None
        depth = math.sqrt(2 * self.num_hidden_layers) if by_depth else 1.0
        return self.input_matrix_std / depth / (self.init_scale_o or 1)

    @property
    def head_std(self) -> float:
        """The same for an untied head."""
        if self.model_reproduce == "transformer":
            return self.initializer_range
        return self.initializer_range / math.sqrt(self.dim_model_base_lmh or 1)

    @classmethod
    def reparametrized(cls, *, base_width: int = 256, depth_multiplier: float = 1.4, **kwargs) -> "YuLanMiniConfig":
        """
        The parametrization that YuLan-Mini was trained with (Table 3 and section 3.2 of the report), for any shape.

        Without arguments it is the published 4K pretraining config. `base_width` is that of the model on which the
        hyper-parameters were tuned, `kwargs` are config keys and win.
        """
        hidden_size = kwargs.get("hidden_size", cls.hidden_size)
        num_hidden_layers = kwargs.get("num_hidden_layers", cls.num_hidden_layers)
        m_width = hidden_size / base_width
        in_alpha = 1 / math.sqrt(m_width)
        out_alpha = 1 / math.sqrt(2 * m_width * num_hidden_layers)
        settings: dict[str, Any] = {
            "tie_word_embeddings": True,
            "scale_emb": 10.0,
            "hidden_states_shrink": depth_multiplier / math.sqrt(num_hidden_layers),
            "dim_model_base_lr": base_width,
            "initializer_range": 5e-5,
            "init_scale_o": 1,
            "model_reproduce": "cerebras",
            **dict.fromkeys(("q_proj_alpha", "k_proj_alpha", "v_proj_alpha", "gate_up_proj_alpha"), in_alpha),
            **dict.fromkeys(("o_proj_alpha", "down_proj_alpha"), out_alpha),
        }
        return cls(**{**settings, **kwargs})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike, **kwargs) -> "YuLanMiniConfig":
        source = pretrained_model_name_or_path
        return super().from_pretrained(source, own_repository=str(source), **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], *, own_repository: str | None = None, **kwargs) -> Any:
        # AutoConfig, which calls this, hands over the repository as the name that the model will have.
        own_repository = own_repository or str(kwargs.get("name_or_path", ""))
        refuse_unsafe_keys(config_dict, own_repository=own_repository)
        return super().from_dict(config_dict, **kwargs)


__all__ = ["YuLanMiniConfig"]
