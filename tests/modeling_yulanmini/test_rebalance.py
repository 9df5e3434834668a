"""Re-balancing changes the split between matrix and scale, not the function, and says what it changes of a step."""

import pytest
import torch
from model_folders import write_small
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import modeling_yulanmini  # noqa: F401 - registers the Auto classes
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.merge import merge
from modeling_yulanmini.modeling_yulanmini import saved_name
from modeling_yulanmini.rebalance import moment_factor, rebalance

IDS = torch.randint(131, (2, 40), generator=torch.Generator().manual_seed(1))
MATRICES = [f"self_attn.{letter}_proj" for letter in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


@pytest.mark.parametrize("overrides", [{}, {"tie_word_embeddings": False}], ids=["tied", "untied"])
def test_every_matrix_has_the_rms_and_the_function_is_the_same(tmp_path, overrides):
    src = write_small(tmp_path / "src", **overrides)
    rebalance(src, tmp_path / "dst", rms=0.03)
    before, after = load_file(src / "model.safetensors"), load_file(tmp_path / "dst" / "model.safetensors")
    for layer in range(3):
        for matrix in MATRICES:
            name = f"model.layers.{layer}.{matrix}.weight"
            assert after[name].square().mean().sqrt().item() == pytest.approx(0.03, rel=1e-5)
            assert before[name].square().mean().sqrt().item() > 0.1
    untouched = [name for name in before if "norm" in name or "embed" in name or "head" in name]
    assert all(torch.equal(before[name], after[name]) for name in untouched)
    # What is computed is the products, so the merged models are the test: equal to rounding of float32.
    for name in ("src", "dst"):
        merge(tmp_path / name, tmp_path / f"merged-{name}", compare_logits=False)
    models = [AutoModelForCausalLM.from_pretrained(tmp_path / f"merged-{name}") for name in ("src", "dst")]
    with torch.no_grad():
        first, second = (model(IDS).logits for model in models)
    torch.testing.assert_close(first, second, atol=2e-5, rtol=0)


def test_by_default_all_matrices_get_their_mean_and_a_second_time_nothing_changes(tmp_path):
    src = write_small(tmp_path / "src")
    before = load_file(src / "model.safetensors")
    matrices = [f"model.layers.{layer}.{matrix}.weight" for layer in range(3) for matrix in MATRICES]
    found = torch.stack([before[name].double().square().mean().sqrt() for name in matrices])
    change = rebalance(src, tmp_path / "dst")
    assert change.rms == pytest.approx(found.log().mean().exp().item(), rel=1e-6)
    assert found.min() < change.rms < found.max()
    again = rebalance(tmp_path / "dst", tmp_path / "again")
    assert again.factors.values() == pytest.approx([1.0] * len(again.factors), abs=1e-5)


def test_a_step_relative_to_the_weights_changes_as_reported(tmp_path):
    """One AdamW step, whose size is the rate, moves each model's parameters by so much of their size."""
    change = rebalance(write_small(tmp_path / "src"), tmp_path / "dst", rms=0.03)
    moved = {}
    for name in ("src", "dst"):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=1e-15, weight_decay=0.0)
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
        moved[name] = {
            key: ((value.detach() - before[key]).norm() / before[key].norm()).item()
            for key, value in model.named_parameters()
        }
    for parameter, ratio in change.steps.items():
        assert moved["dst"][parameter] / moved["src"][parameter] == pytest.approx(ratio, rel=0.01), parameter
    assert max(change.steps.values()) > 2
    assert f"to {max(change.steps.values()):.3g} (" in change.summary()


def test_moments_moved_along_are_those_of_the_rebalanced_model(tmp_path):
    """After one AdamW step from zero, the state of each model comes from its own gradients."""
    src = write_small(tmp_path / "src", tie_word_embeddings=False)
    factors = rebalance(src, tmp_path / "dst", rms=0.03).factors
    state = {}
    for name in ("src", "dst"):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), eps=1e-15)
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
        state[name] = {saved_name(key): dict(optimizer.state[value]) for key, value in model.named_parameters()}
    assert state["src"].keys() == state["dst"].keys()
    for parameter, moments in state["src"].items():
        for key, moment in moments.items():
            value = moment * moment_factor(key, factors.get(parameter, 1.0))
            expected = state["dst"][parameter][key]
            scale = expected.abs().max().item()
            assert (value - expected).abs().max().item() <= 1e-3 * scale, (parameter, key)
    assert max(factors.values()) > 2
    assert min(factors.values()) < 0.5


def test_a_model_without_scales_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="without learnable scales"):
        rebalance(write_small(tmp_path / "src", wesar_weights=False), tmp_path / "dst", rms=0.02)


@pytest.mark.parametrize("rms", [0.0, -1.0, float("nan")])
def test_an_impossible_rms_is_refused(tmp_path, rms):
    with pytest.raises(CheckpointError, match="above 0"):
        rebalance(write_small(tmp_path / "src"), tmp_path / "dst", rms=rms)
