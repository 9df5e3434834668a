"""The average of checkpoints is the mean of their weights, formed in high precision."""

import pytest
import torch
from model_folders import SMALL, random_tensors, write_folder, write_small
from safetensors.torch import load_file

from modeling_yulanmini.averaging import average
from modeling_yulanmini.configuration_yulanmini import CheckpointError


def test_equal_and_given_weights(tmp_path):
    sources = [write_small(tmp_path / f"step-{seed}", seed=seed, shards=seed + 1) for seed in range(3)]
    parts = [random_tensors(SMALL, seed=seed) for seed in range(3)]
    for name, weights, shares in (("equal", None, [1 / 3] * 3), ("given", [1, 1, 2], [0.25, 0.25, 0.5])):
        result = average(sources, tmp_path / name, weights=weights)
        assert result["weights"] == pytest.approx(shares)
        got = load_file(tmp_path / name / "model.safetensors")
        for tensor in parts[0]:
            expected = sum(part[tensor].double() * share for part, share in zip(parts, shares, strict=True))
            torch.testing.assert_close(got[tensor], expected.float(), rtol=2e-7, atol=0)


def test_bfloat16_checkpoints_are_summed_in_higher_precision(tmp_path):
    # In bfloat16 256 + 1 is 256 again: a sum formed there would lose every one of the ones.
    values = [256.0] + [1.0] * 7
    sources = []
    for index, value in enumerate(values):
        tensors = {name: tensor.bfloat16() for name, tensor in random_tensors(SMALL).items()}
        tensors["model.norm.weight"] = torch.full((48,), value, dtype=torch.bfloat16)
        sources.append(write_folder(tmp_path / str(index), SMALL, tensors))
    average(sources, tmp_path / "mean")
    got = load_file(tmp_path / "mean" / "model.safetensors")["model.norm.weight"]
    assert got.dtype == torch.bfloat16
    assert got.unique().tolist() == [torch.tensor(263 / 8).bfloat16().item()]


def test_step_counters_may_differ_architecture_may_not(tmp_path):
    first = write_small(tmp_path / "first", num_steps_trained_before_this_epoch=100)
    later = write_small(tmp_path / "later", num_steps_trained_before_this_epoch=200)
    average([first, later], tmp_path / "mean")
    other = write_small(tmp_path / "other", rope_theta=490000.0)
    with pytest.raises(CheckpointError, match=r"rope_theta is 490000\.0, but 10000\.0"):
        average([first, other], tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_tensors_that_do_not_match_are_named(tmp_path):
    first = write_small(tmp_path / "first")
    tensors = random_tensors(SMALL)
    del tensors["lm_head_alpha"]
    with pytest.raises(CheckpointError, match="no tensor lm_head_alpha"):
        average([first, write_folder(tmp_path / "less", SMALL, tensors)], tmp_path / "mean")
    tensors = random_tensors(SMALL) | {"model.norm.weight": torch.ones(47)}
    with pytest.raises(CheckpointError, match=r"model.norm.weight has shape \[47\]"):
        average([first, write_folder(tmp_path / "shorter", SMALL, tensors)], tmp_path / "mean")


@pytest.mark.parametrize(
    ("count", "weights", "message"),
    [
        (1, None, "at least two"),
        (2, [1.0], "1 weights for 2"),
        (2, [1.0, -1.0], "negative"),
        (2, [0.0, 0.0], "positive"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, count, weights, message):
    sources = [write_small(tmp_path / str(index)) for index in range(count)]
    with pytest.raises(CheckpointError, match=message):
        average(sources, tmp_path / "mean", weights=weights)
