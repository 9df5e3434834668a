"""Frameworks that throw the language-model class away: what they keep must give the same logits.

TRL's fused head calls the base model and multiplies by lm_head.weight itself; vLLM's transformers backend does the
same with an attention function, an embedding and linear layers of its own.
"""

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AutoModel

from modeling_yulanmini import YuLanMiniModel

SETTINGS = {
    "as published": {},
    "untied, scaled logits": {"tie_word_embeddings": False, "dim_model_base_logits": 8},
    "no WeSaR": {"wesar_weights": False, "dim_model_base_logits": 8},
    "norm output scale": {"ln_scale": 0.7},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_last_hidden_state_times_head_weight_is_the_logits(make_model, input_ids, settings):
    model = make_model(**SETTINGS[settings])
    hidden_states = model.base_model(input_ids).last_hidden_state
    torch.testing.assert_close(hidden_states @ model.lm_head.weight.T, model(input_ids).logits)
    # The keys by which frameworks look for a scale to apply once more.
    for key in ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling", "final_logit_softcapping"):
        assert not hasattr(model.config, key)


@pytest.mark.parametrize("settings", SETTINGS)
def test_trls_fused_head_scores_like_the_model(make_model, input_ids, settings):
    trl = pytest.importorskip("trl.trainer.utils")
    model = make_model(z_loss=0.0, **SETTINGS[settings])
    labels = input_ids.clone()
    labels[:, :4] = -100
    expected = model(input_ids, labels=labels).loss
    trl.add_fused_lm_head(model)
    assert torch.allclose(model(input_ids=input_ids, labels=labels, fused_lm_head=True).loss, expected, atol=1e-5)


class BackendLinear(nn.Module):
    """A linear layer of a serving backend: not an nn.Linear, called with one argument."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


class BackendEmbedding(nn.Module):
    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.weight[input_ids]


class BackendRMSNorm(nn.Module):
    """What a backend puts in the place of every module called *RMSNorm, and of every norm with a single input."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = weight

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        if residual is not None:
            raise AssertionError("a scale was taken for a residual")
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, 1e-6)


def backend_attention(module, query, key, value, attention_mask, scaling, layers_seen, **kwargs):
    layers_seen.append(module.layer_idx)
    output = nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=float(scaling), enable_gqa=True
    )
    return output.transpose(1, 2), None


def replace_modules(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, BackendLinear(child))
        elif type(child).__name__.endswith("RMSNorm"):
            setattr(module, name, BackendRMSNorm(child.weight))
        else:
            replace_modules(child)


@pytest.mark.parametrize("settings", SETTINGS)
def test_serving_backend_gets_the_same_logits(make_model, input_ids, tmp_path, settings):
    AttentionInterface.register("backend_of_the_test", backend_attention)
    model = make_model(**SETTINGS[settings])
    model.save_pretrained(tmp_path)

    base = AutoModel.from_pretrained(tmp_path, attn_implementation="backend_of_the_test")
    assert type(base) is YuLanMiniModel
    replace_modules(base)
    embedding = base.get_input_embeddings()
    scale = getattr(embedding, "embed_scale", None)
    assert scale is None, "the scale acts in the model: a backend that also finds one here would apply it twice"
    base.set_input_embeddings(BackendEmbedding(embedding.weight))

    layers_seen: list[int] = []
    positions = torch.arange(input_ids.shape[1])[None]
    for row, expected in zip(input_ids, model(input_ids).logits, strict=True):
        hidden_states = base(
            input_ids=row[None], position_ids=positions, use_cache=False, layers_seen=layers_seen, return_dict=False
        )[0]
        torch.testing.assert_close(hidden_states[0] @ model.lm_head.weight.T, expected, atol=1e-5, rtol=1e-4)
    assert layers_seen == [0, 1, 2] * 3
