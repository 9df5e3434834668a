"""The model against the reference implementation's own outputs (tests/data/golden/)."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

from modeling_yulanmini import YuLanMiniForCausalLM, YuLanMiniModel
from modeling_yulanmini.modeling_yulanmini import saved_name

TOLERANCE = 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_logits_and_loss_are_the_references(golden, expected, attention):
    model = AutoModelForCausalLM.from_pretrained(golden, attn_implementation=attention)
    assert type(model) is YuLanMiniForCausalLM
    output = model(expected["input_ids"], labels=expected["input_ids"])
    assert (output.logits - expected["logits"]).abs().max() < TOLERANCE
    assert (output.loss - expected["loss"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_gradient_is_the_references(golden, expected, attention):
    model = YuLanMiniForCausalLM.from_pretrained(golden, attn_implementation=attention)
    model(expected["input_ids"], labels=expected["input_ids"]).loss.backward()
    found = {saved_name(name): parameter.grad for name, parameter in model.named_parameters()}
    reference = load_file(golden / "grads.safetensors")
    assert set(found) == set(reference)
    for name, gradient in reference.items():
        difference = (found[name].reshape(gradient.shape) - gradient).abs().max()
        assert difference < TOLERANCE, name
        # Many gradients are smaller than the tolerance itself.
        assert difference < 1e-3 * gradient.abs().max(), name


def test_base_model_output_carries_the_heads_alpha(golden, expected):
    model = AutoModel.from_pretrained(golden)
    assert type(model) is YuLanMiniModel
    hidden_states = model(expected["input_ids"]).last_hidden_state
    reference = expected["last_hidden_state"] * load_file(golden / "model.safetensors")["lm_head_alpha"]
    assert (hidden_states - reference).abs().max() < TOLERANCE
    assert (hidden_states @ model.embed_tokens.weight.T - expected["logits"]).abs().max() < TOLERANCE


def test_generates_the_argmax_of_the_uncached_logits(golden_model, expected):
    prompt = expected["input_ids"][:, :7]
    generated = golden_model.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None)
    tokens = prompt
    with torch.no_grad():
        for _ in range(12):
            tokens = torch.cat((tokens, golden_model(tokens, use_cache=False).logits[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(generated, tokens)


def test_saved_layout_is_the_published_one(golden, golden_model, tmp_path):
    golden_model.save_pretrained(tmp_path)
    saved, published = load_file(tmp_path / "model.safetensors"), load_file(golden / "model.safetensors")
    assert set(saved) == set(published)
    for name, tensor in published.items():
        assert torch.equal(saved[name].reshape(tensor.shape), tensor), name
