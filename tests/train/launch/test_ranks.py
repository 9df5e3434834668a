"""How many ranks `accelerate launch` was asked for on a CPU, where it starts one itself; how long they wait."""

import time
from pathlib import Path

import pytest
import torch.distributed as dist
import yaml
from forked_ranks import on_ranks
from pretrain_miniature import write_run_config

from train.config import PretrainConfig
from train.config_file import load_config
from train.errors import TrainError
from train.launch.ranks import _requested_ranks
from train.launch.world import enter_world

SCRIPT = ["train/pretrain.py", "tiny", "--set", "max_steps=9"]


@pytest.mark.parametrize(
    ("command", "ranks"),
    [
        (["accelerate", "launch", "--cpu", "--num_processes", "2"], 2),
        (["python", "-P", "/x/train/launch/accelerate_main.py", "--quiet", "--cpu", "--num-processes=3"], 3),
        (["python", "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_processes", "4"], 4),
        (["accelerate-launch", "--config_file", "FILE"], 5),
        (["accelerate", "launch", "--config_file", "FILE", "--num_processes", "6"], 6),
        (["srun", "something-else"], None),
    ],
)
def test_ranks_are_those_of_the_options_or_of_the_file_that_they_name(
    tmp_path: Path, command: list[str], ranks: int | None
) -> None:
    file = tmp_path / "multi-cpu.yaml"
    answers = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_CPU", "use_cpu": True}
    file.write_text(yaml.safe_dump(answers | {"num_processes": 5, "num_machines": 1, "machine_rank": 0}))
    assert _requested_ranks([*(str(file) if word == "FILE" else word for word in command), *SCRIPT]) == ranks


def test_answers_that_accelerate_leaves_out_without_a_word_are_named(tmp_path: Path) -> None:
    file = tmp_path / "fsdp.yaml"
    answers = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}}
    common = {"num_processes": 2, "num_machines": 1, "machine_rank": 0, "mixed_precision": "no"}
    file.write_text(yaml.safe_dump(answers | common | {"use_cpu": True}))
    command = ["accelerate", "launch", "--config_file", str(file)]
    assert _requested_ranks([*command, *SCRIPT]) == 2
    with pytest.raises(TrainError, match=r"with --cpu it leaves the FSDP answers of .*fsdp\.yaml out"):
        _requested_ranks([*command, "--cpu", "--num_processes", "2", *SCRIPT])


def wait_for_a_late_rank(config: Path) -> tuple[bool, bool]:
    """Whether a rank waits for one that is two seconds late, at first and in training."""
    world = enter_world(load_config(PretrainConfig, config))
    waited = []
    for minutes in (None, 0.01):
        if minutes is not None:
            world.limit_waiting(minutes)
        if not world.is_main:
            time.sleep(2)
        try:
            world.barrier()
            waited.append(True)
        except RuntimeError:
            waited.append(False)
    assert dist.is_initialized()
    return waited[0], waited[1]


def test_in_training_ranks_wait_less_long_for_each_other_than_before_it(tmp_path: Path) -> None:
    early, _ = on_ranks(2, wait_for_a_late_rank, write_run_config(tmp_path, tmp_path / "config.yaml"))
    assert early == (True, False)
