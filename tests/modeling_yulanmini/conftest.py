"""Small models for this room: the reference implementation's golden one, and random ones far from their initial values."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "wesar_tied"


@pytest.fixture(scope="session")
def golden() -> Path:
    """config.json, model.safetensors, expected.safetensors and grads.safetensors of the reference implementation."""
    return GOLDEN


@pytest.fixture(scope="session")
def expected(golden: Path) -> dict[str, torch.Tensor]:
    """input_ids, last_hidden_state, logits, loss (labels = input_ids)."""
    return load_file(golden / "expected.safetensors")


@pytest.fixture
def golden_model(golden: Path) -> YuLanMiniForCausalLM:
    return YuLanMiniForCausalLM.from_pretrained(golden)


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


@pytest.fixture
def make_model() -> Callable[..., YuLanMiniForCausalLM]:
    """A small randomized model in eval mode; keyword arguments are config keys."""

    def make(seed: int = 0, attn_implementation: str = "sdpa", **settings) -> YuLanMiniForCausalLM:
        config = small_config(**settings)
        config._attn_implementation = attn_implementation
        return randomized(YuLanMiniForCausalLM(config), seed).eval()

    return make


@pytest.fixture
def input_ids() -> torch.Tensor:
    """(3, 21) tokens without the padding token."""
    return torch.randint(4, 97, (3, 21), generator=torch.Generator().manual_seed(1))
