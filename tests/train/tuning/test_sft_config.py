"""Configs of instruction tuning: the published ones parse against today's TRL, bad ones name the nearest key."""

import pytest
import trl
from sft_miniature import write_dpo_config, write_sft_config

from train.config_file import configs, load_config, script_of
from train.errors import TrainError
from train.tuning.config import DpoConfig, OnPolicyConfig, SftConfig, TuningConfig
from train.tuning.trainer import common_arguments, enter
from train.tuning.trainer_keys import IGNORED, OWN_KEYS, PASSED_ON, REFUSED, trl_fields

KINDS: dict[str, type[TuningConfig]] = {kind.script: kind for kind in (SftConfig, DpoConfig, OnPolicyConfig)}
CONFIGS = [path for name, path in configs().items() if script_of(name) in KINDS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_committed_config_becomes_arguments_of_todays_trl(path, tmp_path):
    kind = KINDS[script_of(path.stem)]
    config = load_config(kind, path, ["threads=1"])
    enter(config)
    arguments = getattr(trl, kind.trl_config)(max_steps=1, **common_arguments(config, tmp_path / "work"))
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == config.batch_size
    assert arguments.learning_rate == config.optimizer.lr
    assert arguments.report_to == []
    assert not arguments.push_to_hub


def test_the_published_settings_are_the_published_ones():
    config = load_config(SftConfig, "sft-yulanmini-2.4b")
    assert (config.batch_size, config.max_length, config.epochs, config.optimizer.lr) == (
        512,
        28672,
        2,
        1e-5,
    )
    dpo = load_config(DpoConfig, "dpo-yulanmini-2.4b")
    assert (dpo.batch_size, dpo.epochs, dpo.optimizer.lr, dpo.beta) == (128, 2, 5e-7, 0.1)


def test_the_on_policy_stage_has_the_published_settings_of_ppo():
    config = load_config(OnPolicyConfig, "on-policy-yulanmini-2.4b")
    assert (config.kl_coefficient, config.reward_clip, config.samples, config.temperature) == (0.01, (-20, 10), 4, 1.0)
    assert (config.max_prompt_length, config.max_completion_length, config.batch_size, config.epochs) == (
        2048,
        2048,
        128,
        4,
    )
    assert (config.optimizer.lr, config.optimizer.warmup_ratio, config.optimizer.min_lr_ratio) == (1e-6, 0, 1)
    assert config.rewards["reward_model"].model == "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"
    assert config.rewards.keys() == {"reward_model", "unfinished", "language_mixing", "one_line_filler"}


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_field_of_todays_trl_is_passed_on_or_refused_with_a_reason(kind):
    refused = {name for table in (OWN_KEYS, REFUSED) for names in table.values() for name in names}
    passed_on = set(PASSED_ON[kind.script])
    assert passed_on <= trl_fields(kind.trl_config)
    assert not passed_on & refused
    assert trl_fields(kind.trl_config) - passed_on - refused == set(IGNORED[kind.script])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rate=1", "learning_rate: unknown key"),
        ("optimizer.weight_decai=1", "Did you mean 'weight_decay'"),
        ("recomputation.mode=every", "recomputation.mode: 'every' is not valid"),
        ("optimizer.lr=fast", "optimizer.lr"),
        ("packing=ffd", "packing: 'ffd' is not valid"),
        ("micro_batch_size=3", "batch_size 8 is not a multiple of micro_batch_size 3"),
        ("trainer.dataloader_num_worker=1", "Did you mean 'dataloader_num_workers'"),
        ("trainer.push_to_hub=true", "cannot be set: it is off"),
        ("trainer.fsdp=true", "ranks and sharding are accelerate's answers"),
        ("trainer.padding_free=true", r"set by this config's own keys \(packing\)"),
        ("trainer={label_smoothing_factor: 0.1, loss_type: dft}", "no effect with loss_type dft"),
        ("seed.x=1", "'seed' is a value, not a section"),
        ("max_steps", "expected key=value"),
    ],
)
def test_a_bad_key_or_value_is_named(tmp_path, override, message):
    path = write_sft_config(tmp_path)
    with pytest.raises(TrainError, match=message):
        load_config(SftConfig, path, ["seed=1", override])


def test_overrides_are_typed_and_make_the_sections_they_need(tmp_path):
    config = load_config(SftConfig, write_sft_config(tmp_path), ["lora.rank=8", "lora.alpha=16", "max_steps=null"])
    assert config.lora is not None
    assert (config.lora.rank, config.lora.alpha, config.max_steps) == (8, 16.0, None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.label_smoothing_factor=0.1", "has no place in this stage"),
        ("trainer.label_smoothing=0.1", "has an effect only with trainer.loss_type robust or exo_pair"),
        ("trainer.ref_model_sync_steps=3", "has an effect only with trainer.sync_ref_model"),
        ("trainer.max_prompt_length=3", "no field of TRL's DPOConfig"),
        ("quantization.bits=4", "give 'lora' too"),
    ],
)
def test_a_key_that_dpo_would_ignore_is_refused(tmp_path, override, message):
    with pytest.raises(TrainError, match=message):
        load_config(DpoConfig, write_dpo_config(tmp_path), [override])


def test_a_z_loss_beside_a_loss_that_would_drop_it_is_refused(tmp_path):
    path = write_sft_config(tmp_path, z_loss=0.1)
    with pytest.raises(TrainError, match="z_loss is added to the plain cross-entropy"):
        load_config(SftConfig, path, ["trainer.loss_type=dft"])
