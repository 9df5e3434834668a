"""Every published layout loads; what does not fit is an error that names file and tensor, never a warning."""

import json
import shutil

import pytest
import torch
from accelerate import init_empty_weights, load_checkpoint_and_dispatch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from modeling_yulanmini import CheckpointError, YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini.checkpoint_reader import read_config


@pytest.fixture
def folder(golden, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(golden / name, tmp_path / name)
    return tmp_path


def change_config(folder, remove=(), **settings) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(settings)
    for key in remove:
        del config[key]
    (folder / "config.json").write_text(json.dumps(config))


def change_weights(folder, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def assert_is_golden(model, expected) -> None:
    assert (model(expected["input_ids"]).logits - expected["logits"]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("yulanmini", "YuLanMiniModelForCausalLM"),
        ("yulanmini", "YuLanMiniForCausalLM"),
        ("miniyulan", "MiniYuLanModelForCausalLM"),
    ],
)
def test_published_spellings_load(folder, expected, model_type, architecture):
    change_config(folder, model_type=model_type, architectures=[architecture])
    assert type(AutoConfig.from_pretrained(folder)) is YuLanMiniConfig
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model) is YuLanMiniForCausalLM
    assert_is_golden(model, expected)


def test_miniyulan_is_saved_as_yulanmini(folder, tmp_path_factory):
    change_config(folder, model_type="miniyulan", architectures=["MiniYuLanModelForCausalLM"])
    saved = tmp_path_factory.mktemp("saved")
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(saved)
    config = json.loads((saved / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("yulanmini", ["YuLanMiniForCausalLM"])


def test_published_code_names_in_auto_map_do_not_matter_when_installed(folder, expected):
    change_config(
        folder,
        auto_map={
            "AutoConfig": "configuration_yulanmini.YuLanMiniConfig",
            "AutoModelForCausalLM": "modeling_yulanmini.YuLanMiniModelForCausalLM",
        },
    )
    for trust in (None, True, False):
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust)
        assert type(model) is YuLanMiniForCausalLM
        assert_is_golden(model, expected)


def test_obsolete_and_unknown_keys_change_nothing(folder, expected):
    change_config(
        folder,
        shrink_alpha=1,
        shrink_alpha2=1,
        use_sliding_window=False,
        sliding_window=4096,
        embed_tokens_alpha=1,
        use_emb_alpha=False,
        num_steps_trained_before_this_epoch=9733,
        dim_ffn_base_init=None,
        rope_scaling=None,
        use_liger=True,
        a_key_of_tomorrow={"kept": True},
    )
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.a_key_of_tomorrow == {"kept": True}
    # A cache of a config with a window would be a sliding one.
    assert getattr(model.config, "sliding_window", None) is None
    assert_is_golden(model, expected)


def test_legacy_and_current_rope_spellings_agree(folder):
    change_config(folder, rope_theta=490000.0)
    legacy = AutoConfig.from_pretrained(folder)
    assert legacy.rope_parameters["rope_theta"] == 490000.0
    change_config(folder, remove=["rope_theta"], rope_parameters={"rope_type": "default", "rope_theta": 490000.0})
    assert AutoConfig.from_pretrained(folder).rope_parameters == legacy.rope_parameters


def test_keys_left_out_mean_what_they_meant_to_the_original(folder):
    """Defaults of the original's config class, so that a sparse config.json reads as it did there."""
    (folder / "config.json").write_text(json.dumps({"model_type": "yulanmini", "hidden_size": 60}))
    config = AutoConfig.from_pretrained(folder)
    assert (config.scale_emb, config.hidden_states_shrink, config.tie_word_embeddings) == (1, 1, False)
    assert (config.wesar_weights, config.use_norm_alpha, config.attention_bias) == (True, True, True)
    assert (config.rms_norm_eps, config.layer_norm_eps, config.z_loss, config.ln_scale) == (1e-6, 1e-6, 1e-4, 1.0)
    assert config.rope_parameters["rope_theta"] == 10000.0


@pytest.mark.parametrize("shape", [(), (1,)])
def test_alphas_of_either_shape_load(folder, expected, shape):
    def reshape(tensors):
        for name in tensors:
            if name.endswith("_alpha"):
                tensors[name] = tensors[name].reshape(shape)

    change_weights(folder, reshape)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert all(parameter.shape == (1,) for name, parameter in model.named_parameters() if name.endswith("_alpha"))
    assert_is_golden(model, expected)


def test_sharded_safetensors_load(folder, expected, tmp_path_factory):
    sharded = tmp_path_factory.mktemp("sharded")
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(sharded, max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert_is_golden(AutoModelForCausalLM.from_pretrained(sharded), expected)


def test_untied_checkpoint_loads(folder, expected):
    def untie(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 2

    change_weights(folder, untie)
    change_config(folder, tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(model(expected["input_ids"]).logits, 2 * expected["logits"], atol=1e-5, rtol=1e-5)


def test_tied_checkpoint_with_an_equal_head_loads(folder, expected):
    change_weights(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"] + 0}))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert_is_golden(model, expected)


def test_base_model_and_classifier_load_from_a_causal_lm(folder):
    model = YuLanMiniForCausalLM.from_pretrained(folder)
    base = AutoModel.from_pretrained(folder)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    for other in (base, classifier.model):
        for (name, ours), theirs in zip(other.named_parameters(), model.model.parameters(), strict=True):
            assert torch.equal(ours, theirs), name


def test_loads_in_half_precision(folder, expected):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    logits = model(expected["input_ids"]).logits
    assert logits.dtype == torch.bfloat16
    assert (logits.argmax(-1) == expected["logits"].argmax(-1)).float().mean() > 0.95


@pytest.mark.parametrize("saved_by", ["the original", "this package"])
def test_load_state_dict_takes_a_saved_file(folder, expected, tmp_path_factory, saved_by):
    """transformers' Trainer resumes this way, without from_pretrained."""
    model = YuLanMiniForCausalLM.from_pretrained(folder)
    if saved_by == "this package":
        folder = tmp_path_factory.mktemp("saved")
        model.save_pretrained(folder)
    fresh = YuLanMiniForCausalLM(model.config).eval()
    result = fresh.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert result.missing_keys == ["lm_head.weight"]
    assert result.unexpected_keys == []
    assert_is_golden(fresh, expected)
    fresh.model.load_state_dict(model.model.state_dict())
    fresh.load_state_dict(model.state_dict())


def rename(old, new):
    return lambda tensors: tensors.update({new: tensors.pop(old)})


@pytest.mark.parametrize(
    ("change", "settings", "named"),
    [
        (lambda t: t.pop("model.layers.2.self_attn.k_proj_alpha"), {}, "model.layers.2.self_attn.k_proj_alpha"),
        (lambda t: t.pop("lm_head_alpha"), {}, "model.lm_head_alpha"),
        (lambda t: t.update(extra=torch.ones(3)), {}, "'extra'"),
        (lambda t: t.update(norm_alpha=torch.ones(2)), {}, "'model.norm_alpha' has shape (3,)"),
        (lambda t: t.update({"model.norm_alpha": torch.ones(2)}), {}, "'model.norm_alpha' has shape (2,)"),
        (rename("model.norm.weight", "model.norm.gain"), {}, "model.norm.weight"),
        (lambda t: None, {"wesar_weights": False}, "_alpha"),
        (lambda t: None, {"use_norm_alpha": False}, "layernorm_alpha"),
        (lambda t: None, {"attention_bias": False}, "_proj.bias"),
        (lambda t: None, {"qk_layernorm": True}, "k_layernorm.norms.0.weight"),
        (lambda t: None, {"embedding_ln": True}, "model.embedding_layernorm.weight"),
        (lambda t: None, {"tie_word_embeddings": False}, "lm_head.weight"),
        (lambda t: None, {"intermediate_size": 128}, "has shape (48, 120), the config asks for (48, 128)"),
        (lambda t: None, {"num_hidden_layers": 5}, "model.layers.4."),
        (lambda t: None, {"num_hidden_layers": 3}, "model.layers.3."),
        (lambda t: None, {"vocab_size": 140}, "model.embed_tokens.weight"),
        (
            lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 2}),
            {"tie_word_embeddings": True},
            "lm_head.weight",
        ),
    ],
)
def test_config_and_weights_that_contradict_each_other_are_refused(folder, change, settings, named):
    change_weights(folder, change)
    change_config(folder, **settings)
    with pytest.raises(CheckpointError) as error:
        AutoModelForCausalLM.from_pretrained(folder)
    assert str(folder) in str(error.value)
    assert named in str(error.value)


def test_misshapen_tensor_of_a_sharded_checkpoint_names_its_shard(folder, tmp_path_factory):
    sharded = tmp_path_factory.mktemp("sharded")
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(sharded, max_shard_size="100KB")
    change_config(sharded, intermediate_size=128)
    shards = json.loads((sharded / "model.safetensors.index.json").read_text())["weight_map"]
    with pytest.raises(CheckpointError) as error:
        AutoModelForCausalLM.from_pretrained(sharded)
    tensor = str(error.value).split("'")[1]
    assert str(error.value).startswith(str(sharded / shards[tensor]))


@pytest.mark.parametrize("keep", [0.7, 0.01])
def test_truncated_safetensors_name_the_file(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_missing_shard_is_an_error(folder, tmp_path_factory):
    sharded = tmp_path_factory.mktemp("sharded")
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(sharded, max_shard_size="100KB")
    max(sharded.glob("*.safetensors")).unlink()
    with pytest.raises((CheckpointError, OSError)):
        AutoModelForCausalLM.from_pretrained(sharded)


def test_asking_for_other_sizes_is_still_possible(folder):
    change_config(folder, vocab_size=140)
    model, info = AutoModelForCausalLM.from_pretrained(folder, ignore_mismatched_sizes=True, output_loading_info=True)
    assert model.lm_head.weight.shape == (140, 48)
    assert info["mismatched_keys"]


def test_what_does_not_fit_is_reported_where_a_report_is_asked_for(folder):
    """As in transformers: missing tensors get initial values, unused ones are left, and shapes are still an error."""

    def change(tensors):
        del tensors["model.layers.2.self_attn.k_proj_alpha"]
        tensors["extra"] = torch.ones(3)
        tensors["model.norm.weight"][5] = float("nan")

    change_weights(folder, change)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == {"model.layers.2.self_attn.k_proj_alpha"}
    assert info["unexpected_keys"] == {"extra"}
    assert info["not_finite_keys"] == {"model.norm.weight"}
    assert model.model.layers[2].self_attn.k_proj_alpha.item() == pytest.approx(model.config.k_proj_alpha)
    change_config(folder, vocab_size=140)
    with pytest.raises(RuntimeError, match=r"model\.embed_tokens\.weight"):
        AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)


def test_tensors_handed_over_are_the_callers_to_judge(folder):
    config = YuLanMiniConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 2
    given = {"model.norm.weight": weights["model.norm.weight"]}
    model = YuLanMiniForCausalLM.from_pretrained(None, config=config, state_dict=given)
    assert torch.equal(model.model.norm.weight, weights["model.norm.weight"])


@pytest.mark.parametrize("tied", [True, False])
def test_accelerate_fills_an_empty_model_from_a_saved_file(make_model, input_ids, tmp_path, tied):
    """Names without the base model's prefix included; what it loaded is saved again under the published names."""
    model = make_model(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "saved")
    for device_map in ({"": "cpu"}, "auto"):
        with init_empty_weights():
            empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "saved"))
        empty.tie_weights()
        filled = load_checkpoint_and_dispatch(empty, tmp_path / "saved", device_map=device_map).eval()
        assert torch.equal(filled(input_ids).logits, model(input_ids).logits)
    filled.save_pretrained(tmp_path / "again")
    first, again = (load_file(tmp_path / name / "model.safetensors") for name in ("saved", "again"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "lm_head_alpha"])
def test_a_weight_that_is_not_finite_is_noticed(folder, name, value):
    change_weights(folder, lambda tensors: tensors[name].view(-1)[-1:].fill_(value))
    for dtype in (None, torch.float16):
        with pytest.raises(CheckpointError, match=rf"model\.safetensors: tensor '\S*{name}' holds NaN or infinity"):
            AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("name", ["someone/kernel", "kernels-community/flash-attn2@abc", {"": "someone/kernel"}])
def test_a_file_may_not_name_attention_code(folder, key, name):
    change_config(folder, **{key: name})
    for load in (AutoConfig, YuLanMiniConfig, AutoModelForCausalLM):
        with pytest.raises(CheckpointError, match=f"'{key}'.*expected one of eager, sdpa"):
            load.from_pretrained(folder)
    change_config(folder, **{key: "eager"})
    assert AutoModelForCausalLM.from_pretrained(folder).config._attn_implementation == "eager"


def test_a_kernel_that_a_user_names_has_a_revision(folder, monkeypatch):
    """With one, the name reaches transformers' loader; that is as far as a test without network goes."""
    asked = []
    monkeypatch.setattr(
        "transformers.modeling_utils.lazy_import_flash_attention", lambda name, **options: asked.append(name)
    )
    with pytest.raises(CheckpointError, match="'someone/kernel@REVISION'"):
        AutoModelForCausalLM.from_pretrained(folder, attn_implementation="someone/kernel")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="'someone/kernel@REVISION'"):
        model.set_attn_implementation("someone/kernel")
    assert asked == []
    AutoModelForCausalLM.from_pretrained(folder, attn_implementation="someone/kernel@0123abc")
    assert set(asked) == {"someone/kernel@0123abc"}


@pytest.mark.parametrize("key", ["_attn_implementation_internal", "_experts_implementation_internal"])
def test_internal_attention_keys_are_refused(folder, key):
    change_config(folder, **{key: "someone/kernel"})
    with pytest.raises(CheckpointError, match=key):
        AutoConfig.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=key):
        YuLanMiniForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("value", [["modeling_yulanmini.YuLanMiniModel"], "modeling_yulanmini.YuLanMiniModel", 3])
def test_an_auto_map_that_is_no_object_is_refused(folder, value):
    change_config(folder, auto_map=value)
    with pytest.raises(CheckpointError, match="'auto_map'"):
        YuLanMiniConfig.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="'auto_map'"):
        read_config(folder / "config.json")


@pytest.mark.parametrize("target", ["other/repo--modeling_x.Model", ["other/repo--tokenization_x.Tokenizer", None]])
def test_code_in_another_repository_is_refused(folder, target):
    change_config(folder, auto_map={"AutoModelForCausalLM": target})
    for trust in (False, True):
        with pytest.raises(CheckpointError, match="other/repo"):
            AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust)
    with pytest.raises(CheckpointError, match="other/repo"):
        YuLanMiniConfig.from_pretrained(folder)


def test_code_in_the_checkpoints_own_repository_is_allowed():
    """transformers puts a Hub repository's own name in front of its files."""
    config = YuLanMiniConfig.from_dict(
        {"auto_map": {"AutoModel": "me/mine--modeling_yulanmini.YuLanMiniModel"}}, name_or_path="me/mine"
    )
    assert config.auto_map


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rms_type": "t5"}, "rms_type"),
        ({"embedding_ln": True, "embedding_rmsln": True}, "embedding_ln"),
        ({"num_attention_heads": 7}, "num_attention_heads"),
        ({"num_key_value_heads": 4}, "num_key_value_heads"),
        ({"hidden_states_shrink": "mup"}, "hidden_states_shrink"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"gradient_checkpointing_step": 0}, "gradient_checkpointing_step"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        ({"num_hidden_layers": 0, "hidden_states_shrink": "muparam"}, "num_hidden_layers is 0"),
        ({"hidden_size": -48}, "hidden_size is -48"),
        ({"rope_theta": -10000.0}, "rope_theta is -10000.0"),
        ({"rope_theta": 0}, "rope_theta is 0"),
        ({"dim_model_base_attn": -1}, "dim_model_base_attn is -1"),
        ({"dim_model_base_init": 0, "model_reproduce": "cerebras"}, "dim_model_base_init is 0"),
    ],
)
def test_settings_that_make_no_model_are_refused(folder, settings, named):
    change_config(folder, **settings)
    with pytest.raises(Exception, match=named):
        AutoConfig.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=named):
        read_config(folder / "config.json")
