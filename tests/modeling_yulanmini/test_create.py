"""New models: the published shape and initial values, drawn layer by layer; parameters counted by part."""

import json
import math

import pytest
import torch
from model_folders import SMALL, write_small
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import modeling_yulanmini
from modeling_yulanmini import YuLanMiniConfig
from modeling_yulanmini.checkpoint_reader import ModelFolder
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.counts import count_folder, count_parameters
from modeling_yulanmini.create import config_from, create_model, initial_tensors

TINY = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4}


def tiny(**overrides) -> YuLanMiniConfig:
    return YuLanMiniConfig.reparametrized(**TINY | {"num_key_value_heads": 2, "vocab_size": 500} | overrides)


def test_published_counts():
    counts = count_parameters(config_from("yulanmini-2.4b"))
    assert counts["total"] == 2_234_187_648
    assert counts["scales"] == 450
    assert counts["with_untied_head"] == 2_424_267_648


def test_counts_of_a_folder_are_those_of_its_tensors(tmp_path):
    src = write_small(tmp_path / "src", tie_word_embeddings=False)
    counts = count_folder(src)
    tensors = load_file(src / "model.safetensors")
    assert counts["total"] + counts["scales"] == sum(tensor.numel() for tensor in tensors.values())
    assert counts["with_untied_head"] == counts["total"]
    assert counts["parts"]["head"] == 131 * 48
    assert counts == count_parameters(config_from(src))


@pytest.mark.parametrize("tied", [True, False])
def test_values_follow_the_published_initialisation(tmp_path, tied):
    create_model(tmp_path / "new", tiny(tie_word_embeddings=tied, scale_emb=10.0 if tied else 1.0))
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    m_width = 64 / 256
    for name, tensor in tensors.items():
        if name.endswith("proj.weight"):
            assert tensor.std().item() == pytest.approx(5e-5, rel=0.05), name
        elif name.endswith("proj.bias"):
            assert not tensor.any()
        elif name.endswith("norm.weight"):
            assert torch.equal(tensor, torch.ones(64))
    assert tensors["model.embed_tokens.weight"].std().item() == pytest.approx(5e-5 if tied else 1.0, rel=0.05)
    assert ("lm_head.weight" in tensors) is not tied
    at = "model.layers.2"
    assert tensors[f"{at}.self_attn.q_proj_alpha"].item() == pytest.approx(1 / math.sqrt(m_width))
    assert tensors[f"{at}.down_proj_alpha"].item() == pytest.approx(1 / math.sqrt(2 * m_width * 3))
    assert tensors["lm_head_alpha"].item() == 1


def test_loads_with_nothing_missing_and_the_same_function_as_its_tensors(tmp_path):
    create_model(tmp_path / "new", tiny())
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert isinstance(model, modeling_yulanmini.YuLanMiniForCausalLM)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["model_type"] == "yulanmini"
    AutoModelForCausalLM.from_pretrained(tmp_path / "new").save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "new").iterdir()} | {"generation_config.json"} == {
        path.name for path in (tmp_path / "saved").iterdir()
    }
    assert config["auto_map"] == json.loads((tmp_path / "saved" / "config.json").read_text())["auto_map"]
    assert config["hidden_states_shrink"] == pytest.approx(1.4 / math.sqrt(3))


def test_same_seed_same_bytes_other_seed_other_values(tmp_path):
    torch.manual_seed(1)
    create_model(tmp_path / "a", tiny(), seed=5)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    create_model(tmp_path / "b", tiny(), seed=5)
    assert torch.equal(before, torch.get_rng_state()), "the caller's random state was used"
    create_model(tmp_path / "c", tiny(), seed=6)
    first, same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == same
    assert first != other


def test_layers_differ(tmp_path):
    create_model(tmp_path / "new", tiny())
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    drawn = [tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in range(3)]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], tensors["model.layers.0.self_attn.o_proj.weight"])
    correlation = torch.corrcoef(torch.stack([drawn[0].flatten(), drawn[1].flatten()]))[0, 1]
    assert abs(correlation) < 0.1


def test_full_size_needs_the_memory_of_its_largest_part_only():
    """Tensors are drawn when written: making the list of the 2.23B parameters' tensors costs nothing."""
    tensors = initial_tensors(config_from("yulanmini-2.4b"), seed=0, dtype=torch.float32)
    assert sum(tensor.nbytes for tensor in tensors) == 4 * (2_234_187_648 + 450)
    (block,) = next(t for t in tensors if t.name == "model.layers.55.self_attn.k_proj.weight").blocks()
    assert block.shape == (384, 1920)


def test_config_from_file_folder_and_mistyped_preset(tmp_path):
    src = write_small(tmp_path / "src")
    assert config_from(src).hidden_size == config_from(src / "config.json").hidden_size == SMALL["hidden_size"]
    with pytest.raises(CheckpointError, match=r"Presets: yulanmini-2\.4b"):
        config_from("yulanmini-2b")
    (src / "config.json").write_text(json.dumps(SMALL | {"rms_type": "layernorm"}))
    with pytest.raises(CheckpointError, match="rms_type"):
        config_from(src)


def test_bfloat16(tmp_path):
    result = create_model(tmp_path / "new", tiny(), dtype="bfloat16")
    assert {tensor.dtype for tensor in ModelFolder(tmp_path / "new").tensors.values()} == {torch.bfloat16}
    assert result["bytes"] == 2 * result["parameters"]
