"""Instruction tuning's own head: the ordinary loss over the trained positions, in bfloat16 too."""

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from modeling_yulanmini import modeling_yulanmini as modeling
from train.tuning.loss import add_sums_head


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(300, (8, 128), generator=generator)
    return {
        "input_ids": input_ids,
        "labels": input_ids.masked_fill(torch.rand(8, 128, generator=generator) > 0.8, -100),
    }


def head_gradient(model: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, model.lm_head.weight)[0].double()


@pytest.mark.parametrize("z_loss", [0.0, 0.02])
def test_many_chunks_in_bfloat16_are_as_exact_as_the_ordinary_loss(monkeypatch, z_loss):
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_ELEMENTS", 8 * 300)
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_MIN_TOKENS", 1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).bfloat16()
    add_sums_head(model, z_loss=z_loss)
    inputs = batch()
    output = model(**inputs, sums_head=True)
    counted = inputs["labels"][:, 1:] != -100
    targets = inputs["labels"][:, 1:][counted]
    hidden_states = model.model(inputs["input_ids"]).last_hidden_state[:, :-1][counted]

    def ordinary(dtype: torch.dtype) -> torch.Tensor:
        weight = model.lm_head.weight.to(dtype)
        logits = F.linear(hidden_states.to(dtype), weight)
        logits = logits.to(torch.promote_types(dtype, torch.float32))
        return F.cross_entropy(logits, targets, reduction="sum") + z_loss * logits.logsumexp(-1).square().sum()

    assert output.tokens == len(targets) > 600
    torch.testing.assert_close(output.summed_loss, ordinary(torch.bfloat16), rtol=1e-5, atol=0)
    # In float64 up to the rounding of the gradient itself to the weight's bfloat16.
    exact = head_gradient(model, ordinary(torch.float64))
    distance = (head_gradient(model, output.summed_loss) - exact).norm() / exact.norm()
    assert distance < 0.004


def test_no_trained_position_gives_zero_with_a_gradient():
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    )
    add_sums_head(model)
    inputs = batch()
    output = model(inputs["input_ids"], labels=torch.full_like(inputs["labels"], -100), sums_head=True)
    output.summed_loss.backward()
    assert output.summed_loss.item() == output.tokens.item() == 0
    assert model.lm_head.weight.grad.abs().max() == 0
