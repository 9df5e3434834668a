"""Training FLOPs per token by the three conventions that figures for this model are quoted in, and peaks to divide by.

Tokens per second come first; an MFU means something only with its convention and its peak named.
"""
# The config fills fields that may be None in a file, which mypy does not see.
# mypy: disable-error-code="operator"

from modeling_yulanmini.configuration_yulanmini import YuLanMiniConfig

# Dense bf16 tensor-core peaks, FLOP/s, by a part of the device's name (vendors' data sheets, without sparsity).
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "H800": 989e12, "A100": 312e12, "A800": 312e12, "B200": 2250e12}


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
