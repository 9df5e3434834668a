"""Each option of the published and studied configs against the forward pass written out plainly."""

import pytest
import torch
from plain_forward import plain_logits, plain_loss
from small_models import small_config

from modeling_yulanmini import YuLanMiniForCausalLM, YuLanMiniModel
from modeling_yulanmini.modeling_yulanmini import saved_name

OPTIONS = {
    "as published": {},
    "untied": {"tie_word_embeddings": False},
    "no WeSaR": {"wesar_weights": False},
    "no WeSaR, no residual multiplier": {"wesar_weights": False, "hidden_states_shrink": 1},
    "no norm alphas": {"use_norm_alpha": False},
    "QK LayerNorm": {"qk_layernorm": True},
    "QK LayerNorm, no WeSaR": {"qk_layernorm": True, "wesar_weights": False, "layer_norm_eps": 1e-2},
    "gemma norms": {"rms_type": "gemma"},
    "gemma norms, embedding RMSNorm": {"rms_type": "gemma", "embedding_rmsln": True, "ln_scale": 0.8},
    "embedding RMSNorm": {"embedding_rmsln": True, "ln_scale": 0.7},
    "embedding LayerNorm": {"embedding_ln": True, "ln_scale": 1.3},
    "norm output scale": {"ln_scale": 0.5},
    "attention scale 1 / head_dim": {"dim_model_base_attn": 1},
    "attention scale 2 / head_dim": {"dim_model_base_attn": 4},
    "logits scale": {"dim_model_base_logits": 8},
    "no biases": {"attention_bias": False},
    "no z-loss": {"z_loss": 0.0},
    "large z-loss": {"z_loss": 0.1},
    "residual multiplier 0": {"hidden_states_shrink": 0},
    "residual multiplier above 1 does not act": {"hidden_states_shrink": 1.5},
    "negative residual multiplier does not act": {"hidden_states_shrink": -0.5},
    "residual multiplier muparam": {"hidden_states_shrink": "muparam"},
    "embedding multiplier": {"scale_emb": 3},
    "one key-value head": {"num_key_value_heads": 1},
    "no grouping": {"num_key_value_heads": 4},
    "other RoPE base": {"rope_parameters": {"rope_type": "default", "rope_theta": 490000.0}},
    "norm epsilon": {"rms_norm_eps": 1e-2},
}


def config_dict(model: YuLanMiniForCausalLM) -> dict:
    config = model.config.to_dict()
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    return config


def published_tensors(model: YuLanMiniForCausalLM) -> dict[str, torch.Tensor]:
    return {saved_name(name): parameter for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("option", OPTIONS)
def test_logits_loss_and_gradients_follow_the_formulas(make_model, input_ids, option):
    model: YuLanMiniForCausalLM = make_model(**OPTIONS[option])
    labels = input_ids.clone()
    labels[0, :5] = -100
    tensors = published_tensors(model)

    logits = plain_logits(config_dict(model), tensors, input_ids)
    loss = plain_loss(logits, labels, model.config.z_loss)
    reference = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    output = model(input_ids, labels=labels)
    found = torch.autograd.grad(output.loss, list(tensors.values()), allow_unused=True)

    torch.testing.assert_close(output.logits, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.loss, loss, atol=1e-5, rtol=1e-5)
    for name, ours, theirs in zip(tensors, found, reference, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("option", OPTIONS)
def test_survives_saving_and_loading(make_model, input_ids, tmp_path, option):
    model = make_model(**OPTIONS[option])
    model.save_pretrained(tmp_path)
    reloaded = YuLanMiniForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(reloaded(input_ids).logits, model(input_ids).logits)


def test_options_change_the_logits(make_model, input_ids):
    """Guards the table above: an option that did nothing would pass every comparison with itself."""
    inert = {"no z-loss", "large z-loss", "as published"}
    published = make_model()
    logits = published(input_ids).logits
    for option, settings in OPTIONS.items():
        model = make_model(seed=1, **settings)
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        same = {name: tensor for name, tensor in published.named_parameters() if shapes.get(name) == tensor.shape}
        model.load_state_dict(same, strict=False)
        model.tie_weights()
        assert torch.allclose(model(input_ids).logits, logits, atol=1e-3) == (option in inert), option


def test_z_loss_term_is_reported_apart(make_model, input_ids):
    model = make_model(z_loss=0.01)
    output = model(input_ids, labels=input_ids)
    lse = output.logits[:, :-1].logsumexp(-1)
    torch.testing.assert_close(output.z_loss, 0.01 * lse.square().mean())
    assert not output.z_loss.requires_grad
    cross_entropy = make_model(z_loss=0.0)(input_ids, labels=input_ids).loss
    torch.testing.assert_close(output.loss - output.z_loss, cross_entropy)


def test_initial_values_are_the_reported_ones(make_model):
    torch.manual_seed(0)
    config = small_config(hidden_size=256, intermediate_size=512, vocab_size=1000, o_proj_alpha=0.5, rms_type="gemma")
    model = YuLanMiniForCausalLM(config)
    for name, parameter in model.named_parameters():
        kind = name.rsplit(".", 1)[-1]
        if kind.endswith("_alpha"):
            assert parameter.shape == (1,), name
            assert parameter.item() == pytest.approx(getattr(config, kind)), name
        elif kind == "bias" or "norm" in name:
            assert parameter.abs().max() == 0, name
        else:
            # The padding row of the embedding is 0.
            assert parameter.std().item() == pytest.approx(5e-5, rel=0.05), name


def test_untied_embedding_starts_at_one_and_muP_without_wesar_follows_table_3():
    torch.manual_seed(0)
    width, base, layers = 256, 64, 3
    settings = {"wesar_weights": False, "tie_word_embeddings": False, "initializer_range": 0.02, "scale_emb": 1}
    config = small_config(hidden_size=width, intermediate_size=512, dim_model_base_init=base, **settings)
    model = YuLanMiniForCausalLM(config)
    layer = model.model.layers[1]
    expected = {
        model.model.embed_tokens: 1.0,
        model.lm_head: 0.02,
        layer.self_attn.q_proj: 0.02 / (width / base) ** 0.5,
        layer.mlp.up_proj: 0.02 / (width / base) ** 0.5,
        layer.self_attn.o_proj: 0.02 / (2 * width / base * layers) ** 0.5,
        layer.mlp.down_proj: 0.02 / (2 * width / base * layers) ** 0.5,
    }
    for module, std in expected.items():
        assert module.weight.std().item() == pytest.approx(std, rel=0.05), module
    minicpm = YuLanMiniForCausalLM(
        small_config(hidden_size=width, dim_model_base_init=base, model_reproduce="minicpm", **settings)
    )
    assert minicpm.model.layers[0].self_attn.o_proj.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_base_model_alone_has_the_same_initial_values():
    model = YuLanMiniModel(small_config())
    assert model.layers[0].self_attn.o_proj_alpha.item() == pytest.approx(model.config.o_proj_alpha)
