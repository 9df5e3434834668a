"""What `accelerate config` has written changes what runs, or is refused with a sentence that says what to do."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from forked_ranks import on_ranks
from pretrain_miniature import REPOSITORY, SHAPE, pretrain, write_inputs, write_run_config
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import AutoTokenizer

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.config import PretrainConfig
from train.config_file import load_config
from train.errors import TrainError
from train.launch.answers import honoured, parallelism
from train.launch.world import enter_world
from train.model_setup import build
from train.pretrain import update
from train.run.run import Run

FSDP: dict[str, Any] = {  # the answers that `accelerate config` proposes
    "fsdp_version": 2,
    "fsdp_reshard_after_forward": True,
    "fsdp_offload_params": False,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    "fsdp_cpu_ram_efficient_loading": True,
    "fsdp_activation_checkpointing": False,
}
HSDP = {f"parallelism_config_{name}_size": size for name, size in {"dp_replicate": 2, "dp_shard": 2, "tp": 1}.items()}


def variables(folder: Path, *options: str, fsdp: dict[str, Any] | None = None, **answers: Any) -> dict[str, str]:
    """What accelerate itself passes to a script for a file with these answers."""
    path = folder / "accelerate.yaml"
    kind = {"distributed_type": "FSDP", "fsdp_config": FSDP | fsdp} if fsdp is not None else {"distributed_type": "NO"}
    common = {"compute_environment": "LOCAL_MACHINE", "num_machines": 1, "num_processes": 4, "use_cpu": True}
    path.write_text(yaml.safe_dump(common | {"mixed_precision": "no", "machine_rank": 0} | kind | answers))
    return variables_of(path, *options)


def variables_of(path: Path, *options: str) -> dict[str, str]:
    arguments = launch_command_parser().parse_args(["--config_file", str(path), *options, "script.py"])
    arguments, *_ = _validate_launch_command(arguments)
    if arguments.use_fsdp or arguments.multi_gpu:
        found = prepare_multi_gpu_env(arguments)
    else:
        _, found = prepare_simple_launcher_cmd_env(arguments)
    return {name: value for name, value in found.items() if os.environ.get(name) != value}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The run file with some keys, after accelerate was asked for some answers."""
    # The launcher passes fp8 on only where a package for it is installed; what it then passes is what counts here.
    monkeypatch.setattr("accelerate.utils.launch.is_fp8_available", lambda: True)

    def ask(*options: str, run: dict[str, Any] | None = None, **answers: Any) -> PretrainConfig:
        for name, value in variables(tmp_path, *options, **answers).items():
            monkeypatch.setenv(name, value)
        return honoured(load_config(PretrainConfig, write_run_config(tmp_path, tmp_path / "run.yaml", **(run or {}))))

    return ask


def test_what_a_run_file_leaves_open_is_accelerate_s_to_say(asked: Any) -> None:
    config = asked(
        mixed_precision="bf16",
        dynamo_config={"dynamo_backend": "INDUCTOR"},
        fsdp={"fsdp_reshard_after_forward": False, "fsdp_activation_checkpointing": True},
    )
    assert config.precision == "bfloat16"
    assert config.compile
    assert not config.reshard_after_forward
    assert config.recomputation.mode == "full"


def test_plain_answers_leave_a_run_file_as_it_is(asked: Any) -> None:
    config = asked(run={"precision": "bfloat16", "compile": True, "reshard_after_forward": False})
    assert (config.precision, config.compile, config.reshard_after_forward) == ("bfloat16", True, False)


STAGES = [{"phases": "1-25", "recomputation": {"mode": "every", "k": 7}}, {"phases": "26-27"}]


@pytest.mark.parametrize(
    ("answers", "run", "named"),
    [
        ({"mixed_precision": "bf16"}, {"precision": "float32"}, "mixed_precision bf16, .* precision: float32"),
        ({"mixed_precision": "fp8"}, {"precision": "bfloat16"}, "mixed_precision fp8, .* precision: bfloat16"),
        ({"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, {"compile": False}, "dynamo_backend inductor.*compile: f"),
        ({"fsdp": {}}, {"reshard_after_forward": False}, "fsdp_reshard_after_forward true.* reshard_.*: false"),
        (
            {"fsdp": {"fsdp_activation_checkpointing": True}},
            {"recomputation": {"mode": "none"}},
            "fsdp_activation_checkpointing true, .* recomputation.mode: none",
        ),
        (
            {"fsdp": {"fsdp_activation_checkpointing": True}},
            {"stages": STAGES},
            "fsdp_activation_checkpointing true, .* stages.recomputation.mode: every",
        ),
    ],
)
def test_an_answer_that_contradicts_the_run_file_names_both(
    asked: Any, answers: dict[str, Any], run: dict[str, Any], named: str
) -> None:
    with pytest.raises(TrainError, match=named):
        asked(run=run, **answers)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"fsdp": {"fsdp_version": 1, "fsdp_sync_module_states": True}}, "fsdp_version 1: this trainer needs version"),
        ({"fsdp": {"fsdp_offload_params": True}}, "fsdp_offload_params: .* recomputation"),
        ({"fsdp": {"fsdp_state_dict_type": "FULL_STATE_DICT"}}, "FULL_STATE_DICT: checkpoints are sharded"),
        ({"fsdp": {"fsdp_auto_wrap_policy": "SIZE_BASED_WRAP"}}, "SIZE_BASED_WRAP: .* tied to it"),
        ({"fsdp": {"fsdp_ignored_modules": ".*norm"}}, "fsdp_ignored_modules: all parameters are sharded"),
        ({"fsdp": {}, "parallelism_config": {"parallelism_config_cp_size": 2}}, "cp_size 2: context .* see each other"),
        ({"fsdp": {}, "parallelism_config": {"parallelism_config_tp_size": 2}}, "tp_size 2: tensor parallelism"),
        ({"fsdp": {}, "parallelism_config": {"parallelism_config_sp_size": 2}}, "sp_size 2: sequence parallelism"),
        ({"mixed_precision": "fp16"}, "mixed_precision fp16: its range"),
        ({"mixed_precision": "fp8", "fp8_config": {"backend": "TE"}}, "fp8 backend TE: only torchao"),
        ({"dynamo_config": {"dynamo_backend": "AOT_EAGER"}}, "dynamo backend aot_eager.*each layer is compiled"),
        (
            {"dynamo_config": {"dynamo_backend": "INDUCTOR", "dynamo_mode": "max-autotune"}},
            "mode max-autotune: each layer is compiled",
        ),
    ],
)
def test_what_this_trainer_does_not_do_is_refused_with_what_to_do(
    asked: Any, answers: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TrainError, match=sentence):
        asked(**answers)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed: this trainer shards with FSDP2"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "Megatron-LM: "),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "gradient_accumulation_steps 4: .* set micro_batch_rows"),
        ("XLA_DOWNCAST_BF16", "1", "downcast_bf16: is for TPUs"),
    ],
)
def test_other_engines_are_refused_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    sentence: str,
) -> None:
    monkeypatch.setenv(variable, value)
    config = write_run_config(tmp_path, tmp_path / "run.yaml")
    assert pretrain(config) == 2
    with pytest.raises(TrainError, match=sentence):
        honoured(load_config(PretrainConfig, config))
    assert "error: accelerate: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_mesh_that_is_not_that_of_the_ranks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "6")
    monkeypatch.setenv("PARALLELISM_CONFIG_DP_SHARD_SIZE", "8")
    mesh = parallelism(48)
    assert (mesh.dp_replicate_size, mesh.dp_shard_size) == (6, 8)
    with pytest.raises(TrainError, match="dp_replicate_size 6 x dp_shard_size 8 on 56 ranks"):
        parallelism(56)
    monkeypatch.setenv("PARALLELISM_CONFIG_DP_SHARD_SIZE", "1")
    with pytest.raises(TrainError, match="something has to be sharded"):
        parallelism(6)


@pytest.mark.parametrize(("ranks", "local", "mesh"), [(1, 1, (1, 1)), (8, 8, (1, 8)), (56, 8, (7, 8)), (3, 1, (1, 3))])
def test_without_an_answer_a_node_is_sharded_and_nodes_are_replicas(
    monkeypatch: pytest.MonkeyPatch, ranks: int, local: int, mesh: tuple[int, int]
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    found = parallelism(ranks)
    assert (found.dp_replicate_size, found.dp_shard_size) == mesh


def one_step(config: Path) -> dict[str, Any]:
    read: list[Path] = []
    read_weights = build._read_weights
    build._read_weights = lambda model, folder: (read.append(folder), read_weights(model, folder))
    settings = honoured(load_config(PretrainConfig, config))
    run = Run(settings, enter_world(settings))
    build._read_weights = read_weights
    plan = run.curriculum.at(0)
    run.enter_phase(plan)
    seen: dict[str, Any] = {"calls": 0, "compute": set()}

    def look(module: Any, *_: Any) -> None:
        seen["calls"] += 1
        seen["compute"].add(module.weight.dtype)

    run.model.model.layers[1].mlp.down_proj.register_forward_hook(look)
    run.pending.add(update(run, plan))
    (record,) = run.pending.take()
    parameters = list(run.model.parameters())
    run.close()
    found = seen | {
        "loss": record["loss"],
        "sharded": all(isinstance(value, DTensor) for value in parameters),
        "masters": {value.dtype for value in parameters},
        "mesh": tuple(parameters[0].device_mesh.shape) if isinstance(parameters[0], DTensor) else None,
        "read": len(read),
        "linears": Counter(type(module).__name__ for module in run.model.modules()),
        "kinds_of_tensors": {type(value).__name__ for value in get_model_state_dict(run.model).values()},
        "environment": dict(os.environ),
    }
    run.world.barrier()
    run.world.close()
    return found


def test_the_answers_of_accelerate_config_change_what_runs(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """HSDP, bfloat16, activation checkpointing and loading on rank 0 alone, as asked, on four ranks."""
    inputs = write_inputs(tmp_path / "inputs")
    shape = SHAPE | {"vocab_size": len(AutoTokenizer.from_pretrained(inputs / "tokenizer"))}
    YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(base_width=32, **shape)).save_pretrained(tmp_path / "model")
    changes = {"heldout": None, "init": {"path": str(tmp_path / "model")}}
    config = write_run_config(inputs, tmp_path / "config.yaml", **changes)
    plain = one_step(config)
    assert (plain["calls"], plain["compute"], plain["sharded"]) == (1, {torch.float32}, False)
    answers = variables(
        tmp_path, mixed_precision="bf16", parallelism_config=HSDP, fsdp={"fsdp_activation_checkpointing": True}
    )
    for rank, found in enumerate(on_ranks(4, one_step, config, **answers)):
        assert found["read"] == (1 if rank == 0 else 0)
        assert found["mesh"] == (2, 2)
        assert found["sharded"]
        assert found["calls"] == 2  # forward, and again in the backward pass
        assert (found["compute"], found["masters"]) == ({torch.bfloat16}, {torch.float32})
        assert found["loss"] != plain["loss"]
        assert found["loss"] == pytest.approx(plain["loss"], rel=2e-3)
        given = {name: value for name, value in found["environment"].items() if name.startswith(("FSDP", "ACCEL"))}
        assert given == {name: value for name, value in answers.items() if name in given} | {
            "ACCELERATE_USE_CPU": "true"
        }


def test_fp8_by_torchao_s_recipe_keeps_float32_masters_and_plain_checkpoints(tmp_path: Path) -> None:
    """On a CPU torchao emulates the products; what they cost and save is seen on a GPU only."""
    pytest.importorskip("torchao")
    shape = SHAPE | {"num_hidden_layers": 4}
    config = write_run_config(write_inputs(tmp_path / "inputs"), tmp_path / "config.yaml", heldout=None, model=shape)
    plain = one_step(config)
    answers = variables(tmp_path, mixed_precision="fp8", fp8_config={"backend": "AO"}, fsdp={})
    for found in on_ranks(2, one_step, config, **answers):
        assert found["sharded"]
        assert found["masters"] == {torch.float32}
        assert found["linears"]["Float8Linear"] > 20
        assert found["loss"] != plain["loss"]
        assert found["loss"] == pytest.approx(plain["loss"], rel=5e-3)
        assert found["kinds_of_tensors"] == {"DTensor"}


@pytest.mark.parametrize("path", sorted((REPOSITORY / "train/configs/accelerate").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_files_of_this_package_agree_with_the_published_config(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem.startswith("tuning-"):
        pytest.skip("for TRL's trainer")
    answers = variables_of(path, "--main_process_ip", "10.0.0.1", "--main_process_port", "29500", "--machine_rank", "0")
    for name, value in answers.items():
        monkeypatch.setenv(name, value)
    values = yaml.safe_load(path.read_text())
    config = load_config(PretrainConfig, "yulanmini-2.4b")
    assert honoured(config).precision == "bfloat16"
    mesh = parallelism(values["num_processes"])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(values["num_processes"] // values["num_machines"]))
    assert mesh.dp_replicate_size == values["num_machines"]
