"""Small random models of every option, with all parameters far from their initial values."""

import torch

from modeling_yulanmini import YuLanMiniConfig


def small_config(**settings) -> YuLanMiniConfig:
    shape = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "hidden_states_shrink": 0.6,
        "pad_token_id": 3,
    }
    return YuLanMiniConfig.reparametrized(**{**shape, **settings})


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter far from its initial value, so that no scale, bias or offset can be forgotten unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("_alpha"):
                parameter.copy_(noise.abs() * 0.4 + 0.5)
            elif "norm" in name:
                parameter.add_(noise * 0.2)
            elif name.endswith("bias"):
                parameter.copy_(noise * 0.3)
            elif "embed_tokens" in name or "lm_head" in name:
                parameter.copy_(noise * 0.15)
            else:
                parameter.copy_(noise * 0.25)
    return model
