"""The forward pass written out from the report, scale by scale and in the original's order, with nothing folded.

Reads a config.json-like dict and tensors under their published names; knows nothing of the model class.
"""

import math

import torch
from torch.nn import functional as F


def plain_logits(config: dict, tensors: dict[str, torch.Tensor], input_ids: torch.Tensor) -> torch.Tensor:
    """(batch, seq_len, vocab_size) logits, causal attention, positions 0, 1, ..."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    hidden_size = config["hidden_size"]
    head_dim = hidden_size // heads
    ln_scale = config.get("ln_scale", 1.0)

    def alpha(name: str) -> torch.Tensor | float:
        return tensors[name].reshape(()) if name in tensors else 1.0

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def rms_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        offset = 1 if config.get("rms_type") == "gemma" else 0
        normalized = x / torch.sqrt((x * x).mean(-1, keepdim=True) + config.get("rms_norm_eps", 1e-6))
        return normalized * (offset + tensors[f"{name}.weight"])

    def per_head_layer_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        eps = config.get("layer_norm_eps", 1e-6)
        normed = [
            F.layer_norm(x[:, head], (head_dim,), tensors[f"{name}.norms.{head}.weight"], eps=eps)
            for head in range(x.shape[1])
        ]
        return torch.stack(normed, dim=1)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        theta = config.get("rope_theta", 10000.0)
        angles = torch.arange(x.shape[2])[:, None] / theta ** (torch.arange(0, head_dim, 2) / head_dim)
        first, second = x[..., : head_dim // 2], x[..., head_dim // 2 :]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    shrink = config.get("hidden_states_shrink", 1)
    if shrink == "muparam":
        shrink = 1 / math.sqrt(config["num_hidden_layers"])
    shrink = shrink if 0 <= shrink < 1 else 1

    states = tensors["model.embed_tokens.weight"][input_ids] * config.get("scale_emb", 1)
    if config.get("embedding_ln"):
        weight = tensors["model.embedding_layernorm.weight"]
        states = F.layer_norm(states, (hidden_size,), weight, eps=config.get("layer_norm_eps", 1e-6))
    if config.get("embedding_rmsln"):
        states = rms_norm(states, "model.embedding_layernorm") * ln_scale

    batch, length = input_ids.shape
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        attention = f"{layer}.self_attn"
        x = rms_norm(states, f"{layer}.input_layernorm") * ln_scale * alpha(f"{layer}.input_layernorm_alpha")
        q, k, v = (
            (linear(x, f"{attention}.{name}") * alpha(f"{attention}.{name}_alpha"))
            .view(batch, length, -1, head_dim)
            .transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        if config.get("qk_layernorm"):
            q = per_head_layer_norm(q, f"{attention}.q_layernorm")
            k = per_head_layer_norm(k, f"{attention}.k_layernorm")
        q, k = rotate(q), rotate(k)
        k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
        scores = q @ k.transpose(2, 3) * math.sqrt(config.get("dim_model_base_attn") or head_dim) / head_dim
        mixed = scores.masked_fill(future, -math.inf).softmax(-1) @ v
        mixed = linear(mixed.transpose(1, 2).reshape(batch, length, -1), f"{attention}.o_proj")
        states = states + mixed * alpha(f"{attention}.o_proj_alpha") * shrink

        x = rms_norm(states, f"{layer}.post_attention_layernorm") * ln_scale
        x = x * alpha(f"{layer}.post_attention_layernorm_alpha") * alpha(f"{layer}.gate_up_proj_alpha")
        x = F.silu(linear(x, f"{layer}.mlp.gate_proj")) * linear(x, f"{layer}.mlp.up_proj")
        states = states + linear(x, f"{layer}.mlp.down_proj") * alpha(f"{layer}.down_proj_alpha") * shrink

    states = rms_norm(states, "model.norm") * ln_scale * alpha("model.norm_alpha")
    states = states / (hidden_size / (config.get("dim_model_base_logits") or hidden_size)) * alpha("lm_head_alpha")
    return linear(states, "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head")


def plain_loss(logits: torch.Tensor, labels: torch.Tensor, z_loss: float) -> torch.Tensor:
    """Mean next-token cross-entropy plus z_loss times the mean squared log-sum-exp, over labels that are not -100."""
    logits, labels = logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1)
    logits, labels = logits[labels != -100], labels[labels != -100]
    return F.cross_entropy(logits, labels) + z_loss * logits.logsumexp(-1).square().mean()
