"""What every tensor of a merged model is: one tensor of the unmerged model times one number.

All that sets YuLan-Mini apart from Llama is a product with a scalar somewhere (facts of the published code: WeSaR
scales, embedding and residual multipliers, attention and logits scale, norm offset), so it can be folded into the
weight beside it.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch

from modeling_yulanmini.checkpoint_reader import ModelFolder
from modeling_yulanmini.checkpoint_writer import TensorToWrite
from modeling_yulanmini.configuration_yulanmini import CheckpointError, YuLanMiniConfig

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Target:
    """A stock architecture to merge into, as far as it differs from the others."""

    model_type: str
    architecture: str
    keeps_tied: bool
    """The head stays the embedding. The embedding multiplier then reaches the logits too, and is taken out of the
    final norm, which nothing but the head reads."""
    has_output_bias: bool
    """With q/k/v biases comes one of o_proj, which YuLan-Mini has not: zeros are written."""
    always_has_qkv_bias: bool


TARGETS = {
    "llama": Target("llama", "LlamaForCausalLM", False, True, False),
    "qwen2": Target("qwen2", "Qwen2ForCausalLM", True, False, True),
}


def plan_folds(
    folder: ModelFolder, config: YuLanMiniConfig, target: Target, dtype: torch.dtype = torch.float32
) -> list[TensorToWrite]:
    """The tensors of the merged model, in the order of the network, computed in float64 and rounded to `dtype`.

    Raises `CheckpointError` for an option that no scalar can express, for a tensor that is missing, surplus or of
    another shape than the config says, and for a scale that is not one number.
    """
    refuse_inexpressible(folder, config)
    used: set[str] = set()
    folds: list[TensorToWrite] = []

    def fold(name: str, shape: tuple[int, ...], scale: float, *, offset: float = 0.0, source: str = "") -> None:
        source = source or name
        stored = folder.stored(source)
        if stored.shape != shape:
            raise CheckpointError(
                f"{stored.file}: tensor {source} has shape {list(stored.shape)}, but by config.json {list(shape)}."
            )
        used.add(source)
        blocks = partial(folder.blocks, source, scale=scale, offset=offset)
        folds.append(TensorToWrite(name, shape, dtype, blocks))

    def zeros(name: str, size: int) -> None:
        folds.append(TensorToWrite(name, (size,), dtype, lambda: [torch.zeros(size, dtype=dtype)]))

    def alpha(name: str) -> float:
        if not config.wesar_weights:
            return 1.0
        used.add(name)
        return folder.scalar(name)

    hidden, ffn = config.hidden_size, config.intermediate_size
    # The config types say "or None" of what it resolves on construction.
    head_dim, kv_heads = cast(int, config.head_dim), cast(int, config.num_key_value_heads)
    scale_emb = cast(float, config.scale_emb)
    heads, kv = config.num_attention_heads * head_dim, kv_heads * head_dim
    residual = config.residual_multiplier

    def norm(name: str, extra: float = 1.0) -> None:
        scale = config.ln_scale * extra * (alpha(f"{name}_alpha") if config.use_norm_alpha else 1.0)
        fold(f"{name}.weight", (hidden,), scale, offset=1.0 if config.rms_type == "gemma" else 0.0)

    tied_result = config.tie_word_embeddings and target.keeps_tied
    head_scale = alpha("lm_head_alpha") * config.logits_multiplier
    fold(EMBEDDING, (config.vocab_size, hidden), scale_emb)
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}"
        attention = f"{at}.self_attn"
        norm(f"{at}.input_layernorm")
        for letter, rows, scale in (("q", heads, query_multiplier(config)), ("k", kv, 1.0), ("v", kv, 1.0)):
            name = f"{attention}.{letter}_proj"
            scale *= alpha(f"{name}_alpha")
            fold(f"{name}.weight", (rows, hidden), scale)
            if config.attention_bias:
                fold(f"{name}.bias", (rows,), scale)
            elif target.always_has_qkv_bias:
                zeros(f"{name}.bias", rows)
        fold(f"{attention}.o_proj.weight", (hidden, heads), residual * alpha(f"{attention}.o_proj_alpha"))
        if target.has_output_bias and config.attention_bias:
            zeros(f"{attention}.o_proj.bias", hidden)
        norm(f"{at}.post_attention_layernorm")
        gate_up = alpha(f"{at}.gate_up_proj_alpha")
        fold(f"{at}.mlp.gate_proj.weight", (ffn, hidden), gate_up)
        fold(f"{at}.mlp.up_proj.weight", (ffn, hidden), gate_up)
        fold(f"{at}.mlp.down_proj.weight", (hidden, ffn), residual * alpha(f"{at}.down_proj_alpha"))
    norm("model.norm", head_scale / scale_emb if tied_result else 1.0)
    if not tied_result:
        source = EMBEDDING if config.tie_word_embeddings else HEAD
        fold(HEAD, (config.vocab_size, hidden), head_scale, source=source)
    refuse_unused(folder, config, used)
    return folds


def query_multiplier(config: YuLanMiniConfig) -> float:
    """What queries are multiplied by for Llama's softmax scale, 1/sqrt(head_dim), to act as this model's own."""
    return config.attention_multiplier * math.sqrt(cast(int, config.head_dim))


def refuse_inexpressible(folder: ModelFolder, config: YuLanMiniConfig) -> None:
    """Raise `CheckpointError` for each option that has no counterpart in a stock Llama-like model."""
    options = {
        "qk_layernorm": "LayerNorm of each query and key head",
        "embedding_ln": "LayerNorm after the embedding",
        "embedding_rmsln": "RMSNorm after the embedding",
    }
    on = [f"{name} ({what})" for name, what in options.items() if getattr(config, name)]
    if on:
        raise CheckpointError(
            f"{folder.path}: cannot be merged, the architecture to merge into has no {' and no '.join(on)}. "
            "Serve the unmerged model through transformers instead."
        )
    if config.scale_emb == 0:
        raise CheckpointError(f"{folder.path / 'config.json'}: scale_emb is 0; every input would be the same.")


def refuse_unused(folder: ModelFolder, config: YuLanMiniConfig, used: set[str]) -> None:
    """A tensor that the plan leaves behind means that config and weights are of different models."""
    unused = sorted(folder.tensors.keys() - used)
    if config.tie_word_embeddings and HEAD in unused:
        # Some writers store a tied head a second time; only a true copy is harmless.
        copies = zip(folder.blocks(EMBEDDING), folder.blocks(HEAD), strict=True)
        same = folder.stored(HEAD).shape == folder.stored(EMBEDDING).shape
        if not same or not all(torch.equal(embedding, head) for embedding, head in copies):
            raise CheckpointError(
                f"{folder.stored(HEAD).file}: tensor {HEAD} differs from {EMBEDDING}, "
                "though config.json says tie_word_embeddings."
            )
        unused.remove(HEAD)
    if unused:
        raise CheckpointError(
            f"{folder.stored(unused[0]).file}: tensor {unused[0]} ({len(unused)} such) has no place in the model "
            "that config.json describes. Config and weights are of different models."
        )
