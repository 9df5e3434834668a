"""Merged models compute what the unmerged ones do, load without this package, and keep what goes with the weights."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from model_folders import SMALL, random_tensors, write_folder, write_small
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaForCausalLM, Qwen2ForCausalLM

import modeling_yulanmini  # noqa: F401 - registers the Auto classes
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.merge import CERTIFICATE_NAME, merge

IDS = torch.randint(131, (2, 40), generator=torch.Generator().manual_seed(1))
GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "wesar_tied"


def logits_of(folder: Path, *, position_ids: torch.Tensor | None = None) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(IDS, position_ids=position_ids, attention_mask=torch.ones_like(IDS)).logits


def assert_same_logits(src: Path, dst: Path) -> None:
    for start in (0, 470):
        positions = torch.arange(start, start + IDS.shape[1])[None].expand_as(IDS)
        expected, got = logits_of(src, position_ids=positions), logits_of(dst, position_ids=positions)
        assert expected.std() > 0.3, "logits too small for the comparison to mean anything"
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


OPTIONS = {
    "published": {},
    "the other published model type": {"model_type": "miniyulan", "architectures": ["MiniYuLanModelForCausalLM"]},
    "untied": {"tie_word_embeddings": False, "scale_emb": 1.0},
    "untied with a scaled embedding": {"tie_word_embeddings": False},
    "attention scale": {"dim_model_base_attn": 2},
    "logits scale": {"dim_model_base_logits": 16},
    "norm scale": {"ln_scale": 1.7},
    "gemma norms": {"rms_type": "gemma"},
    "no learnable scales": {"wesar_weights": False},
    "no norm scales": {"use_norm_alpha": False},
    "no biases": {"attention_bias": False},
    "residual not shrunk below 1": {"hidden_states_shrink": 1.0},
    "residual above 1 does not act": {"hidden_states_shrink": 1.4},
    "larger rotary base": {"rope_theta": 490000.0},
    "multi-head attention": {"num_key_value_heads": 6},
}


@pytest.mark.parametrize("target", ["llama", "qwen2"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_merged_logits_equal_unmerged(tmp_path, target, options):
    src = write_small(tmp_path / "src", **options)
    certificate = merge(src, tmp_path / "dst", target=target)
    assert_same_logits(src, tmp_path / "dst")
    assert certificate["comparison"]["float32"]["max_abs_logit_difference"] < 1e-4


@pytest.mark.parametrize("alpha_shape", [(), (1,)])
def test_scales_of_either_shape_and_sharded_sources_give_the_same_file(tmp_path, alpha_shape):
    merge(write_small(tmp_path / "a"), tmp_path / "merged-a", compare_logits=False)
    merge(write_small(tmp_path / "b", alpha_shape=alpha_shape, shards=3), tmp_path / "merged-b", compare_logits=False)
    read = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("merged-a", "merged-b")]
    assert read[0] == read[1]


@pytest.mark.parametrize("target", ["llama", "qwen2"])
def test_merged_golden_gives_the_reference_implementations_logits(tmp_path, target):
    merge(GOLDEN, tmp_path / "dst", target=target)
    expected = load_file(GOLDEN / "expected.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "dst", dtype=torch.float32)
    with torch.no_grad():
        got = model(expected["input_ids"]).logits
    torch.testing.assert_close(got, expected["logits"], atol=1e-5, rtol=0)


def test_biases_are_scaled_and_the_head_is_untied(tmp_path):
    src = write_small(tmp_path / "src")
    merge(src, tmp_path / "dst", compare_logits=False)
    before, after = load_file(src / "model.safetensors"), load_file(tmp_path / "dst" / "model.safetensors")
    k = "model.layers.1.self_attn.k_proj"
    torch.testing.assert_close(after[f"{k}.bias"], before[f"{k}.bias"] * before[f"{k}_alpha"])
    embedding = before["model.embed_tokens.weight"]
    torch.testing.assert_close(after["model.embed_tokens.weight"], embedding * 10)
    torch.testing.assert_close(after["lm_head.weight"], embedding * before["lm_head_alpha"])
    assert not after["model.layers.0.self_attn.o_proj.bias"].any()
    assert not [name for name in after if "alpha" in name]


def test_qwen2_keeps_the_tied_head_and_invents_no_bias(tmp_path):
    src = write_small(tmp_path / "src")
    certificate = merge(src, tmp_path / "dst", target="qwen2")
    after = load_file(tmp_path / "dst" / "model.safetensors")
    assert "lm_head.weight" not in after
    assert not [name for name in after if name.endswith("o_proj.bias")]
    scales = 2 + 8 * SMALL["num_hidden_layers"]
    before = sum(tensor.numel() for tensor in load_file(src / "model.safetensors").values())
    assert certificate["parameters"] == before - scales
    assert isinstance(AutoModelForCausalLM.from_pretrained(tmp_path / "dst"), Qwen2ForCausalLM)


def test_config_is_the_published_kind(tmp_path):
    src = write_small(tmp_path / "src", rope_theta=490000.0, max_position_embeddings=28723)
    merge(src, tmp_path / "dst", dtype="bfloat16", compare_logits=False)
    config = json.loads((tmp_path / "dst" / "config.json").read_text())
    expected = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": True,
        "mlp_bias": False,
        "head_dim": 8,
        "tie_word_embeddings": False,
        "rope_theta": 490000.0,
        "max_position_embeddings": 28723,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    assert {key: config[key] for key in expected} == expected
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "dst")
    assert isinstance(model, LlamaForCausalLM)
    assert model.config.rope_parameters["rope_theta"] == 490000.0
    assert model.dtype == torch.bfloat16


def test_bfloat16_rounds_once_and_says_what_that_costs(tmp_path):
    src = write_small(tmp_path / "src")
    certificate = merge(src, tmp_path / "bf16", dtype="bfloat16")
    merge(src, tmp_path / "fp32", compare_logits=False)
    rounded = load_file(tmp_path / "bf16" / "model.safetensors")
    for name, exact in load_file(tmp_path / "fp32" / "model.safetensors").items():
        assert torch.equal(rounded[name], exact.bfloat16()), name
    comparison = certificate["comparison"]
    assert comparison["float32"]["max_abs_logit_difference"] < 1e-4
    assert comparison["as_stored"]["max_abs_logit_difference"] > 1e-4
    assert 0 < comparison["as_stored"]["mean_kl"] < 0.1
    assert comparison["as_stored"]["argmax_agreement"] > 0.8
    assert json.loads((tmp_path / "bf16" / CERTIFICATE_NAME).read_text()) == certificate


def test_certificate_holds_the_checksums_of_both_sides(tmp_path):
    from hashlib import sha256

    src = write_small(tmp_path / "src", shards=2)
    certificate = merge(src, tmp_path / "dst", compare_logits=False)
    assert certificate["comparison"] is None
    for side, folder in (("source", src), ("result", tmp_path / "dst")):
        files = certificate[side]["sha256"]
        assert set(files) == {"config.json", *(path.name for path in folder.glob("*.safetensors"))}
        for name, digest in files.items():
            assert sha256((folder / name).read_bytes()).hexdigest() == digest


def test_a_wrong_merge_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    from modeling_yulanmini import merge as module

    plan_folds = module.plan_folds
    monkeypatch.setattr(module, "plan_folds", lambda folder, *args: _unscaled(folder, plan_folds(folder, *args)))
    with pytest.raises(CheckpointError, match="logits differ"):
        merge(write_small(tmp_path / "src"), tmp_path / "dst")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def _unscaled(folder, tensors):
    """The mistake of the released converter: biases copied without their scale."""
    return [
        replace(tensor, blocks=partial(folder.blocks, tensor.name))
        if tensor.name in folder.tensors and tensor.name.endswith("proj.bias")
        else tensor
        for tensor in tensors
    ]


@pytest.mark.parametrize("option", ["qk_layernorm", "embedding_ln", "embedding_rmsln"])
@pytest.mark.parametrize("target", ["llama", "qwen2"])
def test_what_the_target_cannot_express_is_refused_by_name(tmp_path, option, target):
    src = write_small(tmp_path / "src", **{option: True})
    with pytest.raises(CheckpointError, match=option):
        merge(src, tmp_path / "dst", target=target)
    assert not (tmp_path / "dst").exists()


def write_tokenizer(folder: Path, size: int) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={f"t{i}": i for i in range(size)}, merges=[]))
    tokenizer.add_special_tokens(["<pad>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))


def test_tokenizer_template_and_generation_config_are_carried_over(tmp_path):
    src = write_small(tmp_path / "src")
    write_tokenizer(src, 130)
    (src / "chat_template.jinja").write_text("{{ messages }}")
    (src / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 106]}))
    (src / "trainer_state.json").write_text("{}")
    merge(src, tmp_path / "dst", compare_logits=False)
    names = {path.name for path in (tmp_path / "dst").iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        CERTIFICATE_NAME,
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    }
    assert json.loads((tmp_path / "dst" / "generation_config.json").read_text())["eos_token_id"] == [2, 106]
    assert json.loads((tmp_path / "dst" / "config.json").read_text())["pad_token_id"] == 130


def test_the_merged_folder_loads_and_generates_without_this_package(tmp_path):
    merge(write_small(tmp_path / "src"), tmp_path / "dst")
    script = (
        "import sys\n"
        "sys.modules['modeling_yulanmini'] = None\n"
        "import torch\n"
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(tmp_path / 'dst')!r})\n"
        "out = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False)\n"
        "print(type(model).__name__, out.shape[1])\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split()[0] == "LlamaForCausalLM"


def test_merging_again_is_refused_with_the_reason(tmp_path):
    merge(write_small(tmp_path / "src"), tmp_path / "once", compare_logits=False)
    with pytest.raises(CheckpointError, match="merged already"):
        merge(tmp_path / "once", tmp_path / "twice")


def test_large_results_are_sharded(tmp_path, monkeypatch):
    from modeling_yulanmini import checkpoint_writer

    monkeypatch.setattr(checkpoint_writer, "MAX_SHARD_BYTES", 100_000)
    src = write_folder(tmp_path / "src", SMALL, random_tensors(SMALL))
    merge(src, tmp_path / "dst")
    shards = sorted((tmp_path / "dst").glob("model-*.safetensors"))
    assert len(shards) > 2
    assert all(path.stat().st_size < 120_000 for path in shards)
    assert_same_logits(src, tmp_path / "dst")


@pytest.mark.parametrize("target", ["llama", "qwen2"])
def test_a_config_that_makes_no_model_fails_before_anything_is_written(tmp_path, monkeypatch, target):
    merge(
        write_small(tmp_path / "null", attention_dropout=None), tmp_path / "merged", target=target, compare_logits=False
    )
    written = []
    monkeypatch.setattr("modeling_yulanmini.merge.write_model", lambda *args, **kwargs: written.append(args))
    for key, value in {"hidden_act": 3, "attention_dropout": "much", "auto_map": ["a"]}.items():
        src = write_small(tmp_path / key, **{key: value})
        with pytest.raises(CheckpointError, match=key):
            merge(src, tmp_path / f"{key}-merged", target=target)
    assert written == []
