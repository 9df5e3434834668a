"""SFT and DPO sharded by FSDP2 over two gloo ranks: really sharded, and the same losses and weights as one process."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import on_ranks
from sft_miniature import write_dpo_config, write_sft_config, write_yulanmini
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

import train.dpo
import train.sft
import train.tuning.run as tuning_run
from train.config_file import load_config
from train.errors import TrainError
from train.tuning.config import DpoConfig, SftConfig
from train.tuning.trainer import check_answers

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}
KINDS: dict[str, Any] = {
    "sft": (SftConfig, train.sft.run, write_sft_config),
    "dpo": (DpoConfig, train.dpo.run, write_dpo_config),
}


def tune_counting_shards(kind: str, path: Path, out: Path) -> tuple[int, int]:
    """Train; (sharded, all) parameters of the trained model on this rank."""
    config_type, run, _ = KINDS[kind]
    found: list[tuple[int, int]] = []
    finish = tuning_run.finish

    def counting(trainer: Any, *arguments: Any) -> None:
        parameters = list(trainer.model.parameters())
        found.append((sum(isinstance(parameter, DTensor) for parameter in parameters), len(parameters)))
        finish(trainer, *arguments)

    tuning_run.finish = counting
    run(load_config(config_type, path, [f"output_dir={out}"]))
    return found[0]


def compare(alone: Path, two: Path) -> None:
    lines = [[json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] for out in (alone, two)]
    for one, other in zip(*lines, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
    weights = AutoModelForCausalLM.from_pretrained(alone).state_dict()
    found = AutoModelForCausalLM.from_pretrained(two).state_dict()
    torch.testing.assert_close(found, weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("merged", [pytest.param(True, marks=pytest.mark.slow), False], ids=["llama", "yulanmini"])
def test_every_parameter_is_sharded_and_the_result_is_that_of_one_process(tmp_path, kind, merged):
    if not merged:
        write_yulanmini(tmp_path / "model")
    _, run, write = KINDS[kind]
    path = write(tmp_path, max_steps=4, checkpoint={"every_steps": 2}, optimizer={"lr": 0.003})
    for sharded, count in on_ranks(2, tune_counting_shards, kind, path, tmp_path / "two", **FSDP):
        assert sharded == count > 20
    compare(run(load_config(KINDS[kind][0], path)), tmp_path / "two")


def stop_after_three(path: Path, out: Path) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("killed")

    tuning_run.finish = broken
    with pytest.raises(RuntimeError, match="killed"):
        train.sft.run(load_config(SftConfig, path, [f"output_dir={out}"]))


def test_sharded_adapters_are_merged_and_a_run_killed_before_it_wrote_them_trains_no_step_again(tmp_path):
    path = write_sft_config(
        tmp_path, max_steps=4, checkpoint={"every_steps": 4}, lora={"rank": 4, "alpha": 8}, optimizer={"lr": 0.003}
    )
    on_ranks(2, stop_after_three, path, tmp_path / "two", **FSDP)
    before = (tmp_path / "two.work" / "metrics.jsonl").read_bytes()
    on_ranks(2, tune_counting_shards, "sft", path, tmp_path / "two", **FSDP)
    assert (tmp_path / "two" / "metrics.jsonl").read_bytes() == before
    compare(train.sft.run(load_config(SftConfig, path)), tmp_path / "two")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "accelerate: DeepSpeed"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version 1: tuning is sharded by version 2"),
    ],
)
def test_engines_that_tuning_does_not_follow_are_refused(monkeypatch, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainError, match=message):
        check_answers()
