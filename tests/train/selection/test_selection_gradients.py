"""Gradients of single dialogues out of a batch, Adam's view of them, and their sketch: against torch, one at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sft_miniature import write_llama

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.selection.config import SelectConfig
from train.selection.gradients import AdapterGradients, Moments, Sketch, sketched_gradients, summed_mean_losses
from train.selection.rows import padded
from train.selection.warm_up import adapted_model, trained

ADAPTERS = {"rank": 2, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"}


@pytest.fixture(scope="module", params=["llama", "yulanmini"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("selection-model")
    if request.param == "llama":
        write_llama(folder / "model")
    else:
        torch.manual_seed(0)
        small = YuLanMiniConfig(
            vocab_size=263, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256,
        )  # fmt: skip
        YuLanMiniForCausalLM(small).save_pretrained(folder / "model")
    config = SelectConfig(
        output_dir=folder / "out", model=folder / "model", candidates={"a": Path("a")}, targets={"b": Path("b")},
        adapters=ADAPTERS,
    )  # fmt: skip
    adapted = adapted_model(config, torch.device("cpu")).eval()
    torch.manual_seed(1)
    for parameter in trained(adapted).values():  # B begins at zero, where A has no gradient
        parameter.data.normal_(std=0.1)
    return adapted


def rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(2)
    made = []
    for length, untrained in ((5, 2), (17, 3), (9, 8), (30, 1)):
        ids = torch.randint(7, 263, (length,), generator=generator).tolist()
        made.append({"input_ids": ids, "labels": [-100] * untrained + ids[untrained:]})
    return made


def of_one(model: Any, row: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The gradient of the mean loss over the trained tokens, by autograd on this dialogue alone."""
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
    logits = model(input_ids=ids).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    parameters = trained(model)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def test_every_coordinate_of_each_dialogues_gradient_is_that_of_the_dialogue_alone(model: Any) -> None:
    gradients = AdapterGradients(model)
    assert set(gradients.names) == set(trained(model))
    batch = padded(rows(), 3, torch.device("cpu"))
    with gradients.watching():
        summed_mean_losses(model, batch).backward()
    model.zero_grad()
    found = dict(gradients.of_each_row())
    for place, row in enumerate(rows()):
        for name, expected in of_one(model, row).items():
            assert torch.allclose(found[name][place], expected, atol=1e-6, rtol=1e-4), (place, name)
            assert expected.abs().max() > 1e-6


def test_what_moments_make_of_a_gradient_is_the_step_that_adamw_would_take() -> None:
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(3, 4))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    for _ in range(5):
        parameter.grad = torch.randn(3, 4)
        optimizer.step()
    state = optimizer.state[parameter]
    moments = Moments({"w": state["exp_avg"].clone()}, {"w": state["exp_avg_sq"].clone()}, 5, (0.9, 0.999), 1e-8)
    gradient, before = torch.randn(3, 4), parameter.detach().clone()
    update = moments.as_applied("w", gradient[None])[0]
    parameter.grad = gradient
    optimizer.step()
    assert torch.allclose(before - 0.1 * update, parameter, atol=1e-6)


def test_a_sketch_keeps_cosines_and_is_the_same_for_the_same_seed(model: Any) -> None:
    parameters = trained(model)
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    batch = padded(rows(), 3, torch.device("cpu"))
    flat = torch.stack([torch.cat([of_one(model, row)[name].flatten() for name in sorted(sizes)]) for row in rows()])
    exact = torch.nn.functional.normalize(flat, dim=1) @ torch.nn.functional.normalize(flat, dim=1).T
    errors = []
    for seed in range(20):
        sketch = Sketch(sizes, 1024, seed=seed)
        sums = sketched_gradients(model, AdapterGradients(model), sketch, batch, None)
        again = sketched_gradients(model, AdapterGradients(model), Sketch(sizes, 1024, seed=seed), batch, None)
        assert torch.equal(sums, again)
        unit = torch.nn.functional.normalize(sums, dim=1)
        errors.append(unit @ unit.T - exact)
    off_diagonal = ~torch.eye(4, dtype=torch.bool)
    errors = torch.stack(errors)[:, off_diagonal]
    assert errors.std() < 2 / 1024**0.5  # a dense random matrix: 1 / sqrt(dimension) for rows at right angles
    assert errors.mean().abs() < 0.02


def test_dialogues_of_a_batch_do_not_change_each_others_gradients(model: Any) -> None:
    sizes = {name: parameter.numel() for name, parameter in trained(model).items()}
    sketch = Sketch(sizes, 512, seed=0)
    together = sketched_gradients(model, AdapterGradients(model), sketch, padded(rows(), 3, torch.device("cpu")), None)
    for place, row in enumerate(rows()):
        alone = padded([row], 3, torch.device("cpu"))
        one = sketched_gradients(model, AdapterGradients(model), sketch, alone, None)
        assert torch.allclose(one[0], together[place], atol=1e-6, rtol=1e-4)
