"""Models for this room: the golden one, and small random ones far from their initial values."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_models import randomized, small_config

from modeling_yulanmini import YuLanMiniForCausalLM

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
