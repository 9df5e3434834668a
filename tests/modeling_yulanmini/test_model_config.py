"""The config: published values, what is derived from the shape, and that nothing is lost in a file."""

import math

import pytest
import torch

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM


def test_reparametrized_defaults_are_the_published_pretraining_config():
    config = YuLanMiniConfig.reparametrized()
    shape = (config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.vocab_size)
    assert shape == (56, 1920, 4800, 99000)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (30, 6, 64)
    for name in ("q_proj_alpha", "k_proj_alpha", "v_proj_alpha", "gate_up_proj_alpha"):
        assert getattr(config, name) == pytest.approx(0.3651483716701107, rel=1e-15)
    for name in ("o_proj_alpha", "down_proj_alpha"):
        assert getattr(config, name) == pytest.approx(0.03450327796711771, rel=1e-15)
    assert config.hidden_states_shrink == pytest.approx(0.18708286933869706, rel=1e-15)
    assert (config.scale_emb, config.initializer_range, config.z_loss) == (10, 5e-5, 1e-4)
    assert (config.dim_model_base_lr, config.dim_model_base_logits, config.tie_word_embeddings) == (256, 1920, True)
    assert config.attention_multiplier == 1 / 8
    assert config.logits_multiplier == 1


def test_full_size_has_the_published_number_of_parameters():
    config = YuLanMiniConfig.reparametrized()
    with torch.device("meta"):
        model = YuLanMiniForCausalLM(config)
    scales = [p for name, p in model.named_parameters() if name.endswith("_alpha")]
    assert len(scales) == 450
    assert sum(p.numel() for p in model.parameters()) == 2_234_187_648 + 450


def test_reparametrized_follows_the_shape_and_yields_to_what_is_given():
    shape = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2}
    config = YuLanMiniConfig.reparametrized(**shape, base_width=128, o_proj_alpha=0.5)
    assert config.q_proj_alpha == 1 / math.sqrt(4)
    assert config.down_proj_alpha == 1 / math.sqrt(2 * 4 * 8)
    assert config.o_proj_alpha == 0.5
    assert config.hidden_states_shrink == 1.4 / math.sqrt(8)
    assert (config.dim_model_base_lr, config.dim_model_base_logits) == (128, 512)


@pytest.mark.parametrize(
    ("shrink", "acting"), [(0.187, 0.187), (0, 0.0), (1, 1.0), (1.4, 1.0), (-0.2, 1.0), ("muparam", 56**-0.5)]
)
def test_only_residual_multipliers_below_one_act(shrink, acting):
    assert YuLanMiniConfig(hidden_states_shrink=shrink).residual_multiplier == pytest.approx(acting)


def test_file_round_trip_keeps_every_key(tmp_path):
    config = YuLanMiniConfig.reparametrized(qk_layernorm=True, rms_type="gemma", vi_residual_alpha=1.4, z_loss=None)
    config.save_pretrained(tmp_path)
    reread = YuLanMiniConfig.from_pretrained(tmp_path)
    assert reread.to_dict() == config.to_dict()
    assert reread.vi_residual_alpha == 1.4


def test_wrong_type_is_refused_by_key():
    with pytest.raises(Exception, match="hidden_size"):
        YuLanMiniConfig(hidden_size="64")
