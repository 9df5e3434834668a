"""What a model of a shape costs: parameters by part of the network, and training FLOPs per token by three conventions.

Tokens per second come first; an MFU means something only with its convention and its peak named.
"""
# The config fills fields that may be None in a file, which mypy does not see.
# mypy: disable-error-code="operator"

import os
import re
from typing import Any

from modeling_yulanmini.checkpoint_reader import ModelFolder
from modeling_yulanmini.configuration_yulanmini import YuLanMiniConfig
from modeling_yulanmini.create import empty_model
from modeling_yulanmini.modeling_yulanmini import saved_name

# First match wins; the order is the table's.
PARTS = {
    "scales": r"_alpha$",
    "embedding": r"embed_tokens\.weight$",
    "attention matrices": r"self_attn\.[qkvo]_proj\.weight$",
    "attention biases": r"self_attn\.[qkvo]_proj\.bias$",
    "MLP matrices": r"mlp\.\w+\.weight$",
    "norms": r"norm",
    "head": r"lm_head\.weight$",
}
# Dense bf16 tensor-core peaks, FLOP/s, by a part of the device's name (vendors' data sheets, without sparsity).
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "H800": 989e12, "A100": 312e12, "A800": 312e12, "B200": 2250e12}


def count_parameters(config: YuLanMiniConfig) -> dict[str, Any]:
    """Count the parameters of the model that `config` describes, without making it.

    Returns `parts` (by name), `total` (every trainable parameter once, learnable scales apart), `scales`, and
    `with_untied_head`: the total with embedding and head both counted, which is the size quoted as 2.42B.
    """
    parameters = empty_model(config).named_parameters()
    return counts_of({saved_name(name): parameter.numel() for name, parameter in parameters})


def count_folder(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Count the parameters that a folder's weight files hold, of any Llama-like model; as `count_parameters`."""
    return counts_of({name: tensor.numel for name, tensor in ModelFolder(path).tensors.items()})


def counts_of(sizes: dict[str, int]) -> dict[str, Any]:
    """Group sizes by part of the network, and add them up."""
    parts = dict.fromkeys(PARTS, 0)
    for name, size in sizes.items():
        part = next((part for part, pattern in PARTS.items() if re.search(pattern, name)), "other")
        parts[part] = parts.get(part, 0) + size
    scales = parts.pop("scales")
    total = sum(parts.values())
    head = 0 if parts["head"] else parts["embedding"]
    return {"parts": parts, "total": total, "scales": scales, "with_untied_head": total + head}


def matmul_parameters(config: YuLanMiniConfig) -> int:
    """Parameters that every token is multiplied with: all matrices, the head included, the embedding lookup not."""
    query = config.num_attention_heads * config.head_dim
    key_value = config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * query + 2 * key_value + 3 * config.intermediate_size)
    return config.num_hidden_layers * layer + config.vocab_size * config.hidden_size


def training_flops_per_token(config: YuLanMiniConfig, seq_len: int) -> dict[str, float]:
    """
    FLOPs of one forward and backward pass, per token of rows of `seq_len` tokens. Recomputed layers do not count.

    - `palm`: 6 N + 12 L d s, attention over the whole row (PaLM, appendix B);
    - `causal`: 6 N + 6 L d s, only the half that a causal model looks at;
    - `yulan`: the original project's own script: as many key-value heads as query heads, attention over the whole
      row, and its forward pass once more for what FlashAttention recomputes.
    """
    layers, hidden_size = config.num_hidden_layers, config.hidden_size
    matrices = 6 * matmul_parameters(config)
    full_attention = 4 * layers * config.num_attention_heads * config.head_dim * seq_len
    forward = 8 * layers * hidden_size**2 + 6 * layers * hidden_size * config.intermediate_size + full_attention
    return {
        "palm": float(matrices + 3 * full_attention),
        "causal": matrices + 1.5 * full_attention,
        "yulan": float(3 * forward + full_attention + 6 * hidden_size * config.vocab_size),
    }


def peak_flops(device_name: str) -> float | None:
    """Peak of a known GPU by its name, else None."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device_name), None)
