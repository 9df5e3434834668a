"""What is measured of a checkpoint: sizes of its weights by kind and layer, its scales, and what a text does in it.

`weights.<kind>`: `rms` and `spectral_norm` of each matrix as stored, and both times the matrix's scale (`effective_`),
which is the W = alpha * W~ that acts. `alphas.<scale>` and `norm_weights.<norm>` likewise, a value a layer.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from train.dynamics.streaming import StreamedModel
from train.monitors.activations import largest_attention_logit
from train.monitors.base import variance

# Kind -> the matrix and its scale, within a layer.
MATRICES = {
    "q": ("self_attn.q_proj", "self_attn.q_proj_alpha"),
    "k": ("self_attn.k_proj", "self_attn.k_proj_alpha"),
    "v": ("self_attn.v_proj", "self_attn.v_proj_alpha"),
    "o": ("self_attn.o_proj", "self_attn.o_proj_alpha"),
    "gate": ("mlp.gate_proj", "gate_up_proj_alpha"),
    "up": ("mlp.up_proj", "gate_up_proj_alpha"),
    "down": ("mlp.down_proj", "down_proj_alpha"),
}
NORMS = {
    "attention": ("input_layernorm", "input_layernorm_alpha"),
    "mlp": ("post_attention_layernorm", "post_attention_layernorm_alpha"),
}
SCALES = {
    "q": "self_attn.q_proj_alpha",
    "k": "self_attn.k_proj_alpha",
    "v": "self_attn.v_proj_alpha",
    "o": "self_attn.o_proj_alpha",
    "gate_up": "gate_up_proj_alpha",
    "down": "down_proj_alpha",
    "attention_norm": "input_layernorm_alpha",
    "mlp_norm": "post_attention_layernorm_alpha",
}
SIZES = ("rms", "spectral_norm")


def measure(
    streamed: StreamedModel, input_ids: torch.Tensor | None, *, progress: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Everything of one checkpoint: `weights`, `alphas`, `norm_weights`, and with input_ids [rows, tokens] also
    `text`: `loss` (nats a token), `hidden_state_variance` and `attention_logit_max` by layer."""
    weights: dict[str, dict[str, list[float]]] = {}
    alphas: dict[str, list[float]] = {}
    norms: dict[str, dict[str, list[float]]] = {}

    def add_matrix(kind: str, matrix: torch.Tensor, alpha: float) -> None:
        _append(weights.setdefault(kind, {}), matrix_sizes(matrix), alpha)

    def on_layer(index: int, layer: Any) -> None:
        for kind, (name, scale) in MATRICES.items():
            add_matrix(kind, layer.get_submodule(name).weight, _scalar(layer, scale))
        for norm, (name, scale) in NORMS.items():
            _append(norms.setdefault(norm, {}), vector_sizes(layer.get_submodule(name).weight), _scalar(layer, scale))
        for short, name in SCALES.items():
            if _has(layer, name):
                alphas.setdefault(short, []).append(_scalar(layer, name))
        progress()

    base = streamed.base
    streamed.load_ends()
    add_matrix("embedding", base.embed_tokens.weight, 1.0)
    _append(norms.setdefault("final", {}), vector_sizes(base.norm.weight), _scalar(base, "norm_alpha"))
    for short, name in (("final_norm", "norm_alpha"), ("head", "lm_head_alpha")):
        if _has(base, name):
            alphas[short] = [_scalar(base, name)]

    text: dict[str, Any] | None = None
    if input_ids is None:
        streamed.visit_layers(on_layer)
        streamed.load_head()
    else:
        variances: list[float] = []
        logits: list[float] = []

        def on_output(index: int, hidden_states: torch.Tensor) -> None:
            variances.append(float(variance(hidden_states)))

        def on_attention(index: int, attention: Any, hidden_states: torch.Tensor, positions: Any) -> None:
            rows = hidden_states.split(1)
            logits.append(max(float(largest_attention_logit(attention, row, positions)) for row in rows))

        hidden_states = streamed.forward(input_ids, on_layer=on_layer, on_output=on_output, on_attention=on_attention)
        streamed.load_head()
        text = {
            "loss": streamed.loss(hidden_states, input_ids),
            "hidden_state_variance": variances,
            "attention_logit_max": logits,
        }
    head_alpha = _scalar(base, "lm_head_alpha")
    if streamed.is_tied:
        weights["head"] = {}
        _append(weights["head"], {size: weights["embedding"][size][0] for size in SIZES}, head_alpha)
    else:
        add_matrix("head", streamed.model.lm_head.weight, head_alpha)
    return {"weights": weights, "alphas": alphas, "norm_weights": norms, "text": text}


def _has(module: Any, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    return hasattr(module.get_submodule(owner), leaf)


def _scalar(module: Any, name: str) -> float:
    """A learnable scale; 1 in a model that has none there."""
    return float(module.get_parameter(name)) if _has(module, name) else 1.0


def _append(columns: dict[str, list[float]], sizes: dict[str, float], alpha: float) -> None:
    for name, value in sizes.items():
        columns.setdefault(name, []).append(value)
        columns.setdefault(f"effective_{name}", []).append(abs(alpha) * value)


@torch.no_grad()
def matrix_sizes(matrix: torch.Tensor) -> dict[str, float]:
    """Root mean square and largest singular value of a float32 matrix.

    The singular value is that of the smaller Gram matrix, 1920 x 1920 at full size: exact to float32's rounding, in a
    tenth of the time of `svdvals`, where power iteration would stop early (random matrices have no gap at the edge).
    """
    rms = root_mean_square(matrix)
    if rms == 0:
        return {"rms": 0.0, "spectral_norm": 0.0}
    unit = matrix / rms  # squares of weights of 1e-5 and less, and of bfloat16's largest, stay in range
    gram = unit.T @ unit if unit.shape[0] > unit.shape[1] else unit @ unit.T
    return {"rms": rms, "spectral_norm": rms * math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))}


def vector_sizes(vector: torch.Tensor) -> dict[str, float]:
    """Root mean square and largest magnitude of a norm's weight."""
    return {"rms": root_mean_square(vector), "max_abs": float(vector.abs().max())}


def root_mean_square(tensor: torch.Tensor) -> float:
    """In float64 over the sum, which in float32 loses digits over 190 million elements."""
    total = sum(float(block.square().sum(dtype=torch.float64)) for block in tensor.split(4096))
    return math.sqrt(total / tensor.numel())
