"""FLOP counts against figures published or derived elsewhere for the full-size model."""

import pytest
import torch
from small_models import randomized, small_config
from torch.utils.flop_counter import FlopCounterMode

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.counts import matmul_parameters, peak_flops, training_flops_per_token

FULL = YuLanMiniConfig.reparametrized()


def test_full_size_counts():
    assert matmul_parameters(FULL) == pytest.approx(2.234e9, rel=1e-3)
    counts = training_flops_per_token(FULL, 4096)
    assert counts["palm"] == pytest.approx(18.69e9, rel=1e-3)
    assert counts["causal"] == pytest.approx(16.05e9, rel=1e-3)
    assert counts["yulan"] == pytest.approx(22.43e9, rel=1e-3)
    long = training_flops_per_token(FULL, 28672)
    assert long["causal"] == pytest.approx(31.9e9, rel=2e-3)
    assert long["palm"] == pytest.approx(50.4e9, rel=2e-3)


def test_original_scripts_result():
    """Its 25 phases of 40B tokens: 10 x 28 h on 56 GPUs and 15 x 32 h on 48 give 7,174 tokens/s/GPU and 51.6 %."""
    tokens_per_second = 25 * 40e9 / ((56 * 10 * 28 + 48 * 15 * 32) * 3600)
    assert tokens_per_second == pytest.approx(7174, rel=1e-3)
    utilisation = (
        training_flops_per_token(FULL, 4096)["yulan"] * tokens_per_second / peak_flops("NVIDIA A800-SXM4-80GB")
    )
    assert utilisation == pytest.approx(0.516, abs=1e-3)


def test_counts_of_a_small_model_are_those_of_torch():
    """Matrix products of one real forward and backward pass, as torch's own counter sees them."""
    config = small_config()
    config._attn_implementation = "eager"
    model = randomized(YuLanMiniForCausalLM(config))
    tokens = torch.randint(4, 97, (2, 24))
    with FlopCounterMode(display=False) as counter:
        model(tokens).logits.sum().backward()
    assert counter.get_total_flops() == pytest.approx(48 * training_flops_per_token(config, 24)["palm"], rel=1e-6)


def test_unknown_device_has_no_peak():
    assert peak_flops("Some CPU") is None
