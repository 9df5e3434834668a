"""How many ranks `accelerate launch` was asked for on a CPU, where it starts one itself."""

from pathlib import Path

import pytest
import yaml

from train.launch.ranks import _requested_ranks

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
