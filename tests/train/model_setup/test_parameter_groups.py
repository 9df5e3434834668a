"""Which parameter trains at which rate with which decay, against Table 3."""

import pytest
import torch
from torch import nn

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.config import OptimizerSettings, ParametrizationSettings
from train.model_setup.parameter_groups import group_of, matrix_kind, parameter_groups
from train.model_setup.parametrization import make_parametrization

SHAPE = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4, "num_attention_heads": 4}


def model_with(name: str, decay_on: str = "everything") -> tuple[nn.Module, list[dict[str, object]]]:
    settings = ParametrizationSettings.model_validate({"name": name, "base_width": 16})
    parametrization = make_parametrization(settings, hidden_size=64, num_layers=4)
    built = {"vocab_size": 100, "num_key_value_heads": 2, "initializer_range": 0.02, **SHAPE}
    model = YuLanMiniForCausalLM(YuLanMiniConfig(**(built | parametrization.model_settings(16))))
    parametrization.initialise(model)
    optimizer = OptimizerSettings.model_validate({"weight_decay_on": decay_on})
    return model, parameter_groups(model, lr_factor=parametrization.lr_factor, settings=optimizer)


def test_every_parameter_is_in_exactly_one_group() -> None:
    model, groups = model_with("yulanmini")
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len({id(parameter) for parameter in grouped}) == len(list(model.parameters()))


@pytest.mark.parametrize(("decay_on", "others"), [("everything", 0.1), ("matrices", 0.0)])
def test_matrices_train_at_the_base_rate_over_m_width_and_decay_as_asked(decay_on: str, others: float) -> None:
    _, groups = model_with("yulanmini", decay_on)
    found = {group["name"]: (group["lr_factor"], group["weight_decay"], len(group["params"])) for group in groups}
    assert found == {
        "matrices": (1 / 4, 0.1, 7 * 4),
        "embedding": (1.0, others, 1),
        "norms": (1.0, others, 2 * 4 + 1),
        "biases": (1.0, others, 3 * 4),
        "scales": (1.0, others, 8 * 4 + 2),  # facts.md 1.1: 8 a layer, norm and head
    }


def test_the_published_shape_has_450_scales() -> None:
    with torch.device("meta"):
        model = YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized())
    assert sum(group_of(name) == "scales" for name, _ in model.named_parameters()) == 450


@pytest.mark.parametrize(("name", "factor"), [("standard", 1.0), ("minicpm", 1 / 4), ("cerebras-gpt", 1 / 4)])
def test_the_other_columns_rates(name: str, factor: float) -> None:
    _, groups = model_with(name)
    assert {group["name"]: group["lr_factor"] for group in groups} == {
        "matrices": factor,
        "embedding": 1.0,
        "norms": 1.0,
        "biases": 1.0,
    }


# Table 3, initial variance of QKV and FFN1, and of O and FFN2, in units of s^2; m_width 4, 4 layers.
@pytest.mark.parametrize(
    ("name", "inward", "outward"),
    [
        ("standard", 1.0, 1 / 8),
        ("minicpm", 1 / 4, 1 / 4),
        ("cerebras-gpt", 1 / 4, 1 / 4),
        ("yulanmini", 1 / 4, 1 / 32),
    ],
)
def test_initial_variances_follow_the_table(name: str, inward: float, outward: float) -> None:
    torch.manual_seed(0)
    model, _ = model_with(name)
    named = dict(model.named_parameters())
    for layer in range(4):
        at = f"model.layers.{layer}"
        for module, alpha in (("self_attn.q_proj", "self_attn.q_proj_alpha"), ("mlp.up_proj", "gate_up_proj_alpha")):
            scale = named[f"{at}.{alpha}"].item() if name == "yulanmini" else 1.0
            variance = (named[f"{at}.{module}.weight"] * scale).var().item()
            assert variance / 0.02**2 == pytest.approx(inward, rel=0.1)
        for module, alpha in (("self_attn.o_proj", "self_attn.o_proj_alpha"), ("mlp.down_proj", "down_proj_alpha")):
            scale = named[f"{at}.{alpha}"].item() if name == "yulanmini" else 1.0
            variance = (named[f"{at}.{module}.weight"] * scale).var().item()
            assert variance / 0.02**2 == pytest.approx(outward, rel=0.1)


def test_kinds_of_matrices_by_name() -> None:
    assert matrix_kind("model.layers.3.mlp.up_proj.weight") == "input"
    assert matrix_kind("model.layers.3.self_attn.o_proj.weight") == "output"
    for name in (
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.norm.weight",
    ):
        assert matrix_kind(name) is None
