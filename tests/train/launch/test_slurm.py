"""The Slurm script, run with stand-ins for Slurm's commands that record what they were called with."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from train.launch.launcher import TRAIN_FOLDER, accelerate_options

SCRIPT = TRAIN_FOLDER / "configs" / "slurm" / "pretrain.sh"

RECORD = """#!{python} -P
import json, os, signal, sys
from pathlib import Path

here = Path({here!r})
call = {{"name": Path(sys.argv[0]).name, "words": sys.argv[1:], "environment": dict(os.environ)}}
call["ignores_usr1"] = signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(call) + "\\n")
"""
# On the node that it stands for, srun runs what follows its own options.
SRUN = """
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
os.environ["SLURM_NODEID"] = "1"
os.execvp(words[0], words)
"""
YULANMINI = """
if "--dry-run" in sys.argv:
    print(json.dumps({"output_dir": "out"}))
    sys.exit(int(os.environ.get("DRY_RUN_CODE", "0")))
if os.environ.get("FINISHES"):
    (here / "out").mkdir()
    (here / "out" / "manifest.json").touch()
sys.exit(int(os.environ.get("RUN_CODE", "0")))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    commands = tmp_path / "bin"
    commands.mkdir()
    more = {"srun": SRUN, "yulanmini": YULANMINI, "scontrol": 'print("node-a\\nnode-b")\n'}
    for name, text in more.items():
        path = commands / name
        path.write_text(RECORD.format(python=sys.executable, here=str(tmp_path)) + text)
        path.chmod(0o755)
    return tmp_path


def submit(place: Path, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the script as a job of two nodes with settings; its exit code and the calls of the stand-ins."""
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "32"}
    path = f"{place / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {"PATH": path, "HOME": str(place)}
    done = subprocess.run(
        ["bash", str(SCRIPT), "mine.yaml", "--set", "max_steps=5", "seed=1"],
        cwd=place,  # not the checkout
        env=kept | job | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    calls = [json.loads(line) for line in (place / "calls.jsonl").read_text().splitlines()]
    return done.returncode, calls


def requeued(calls: list[dict[str, Any]]) -> bool:
    return any(call["name"] == "scontrol" and call["words"] == ["requeue", "7"] for call in calls)


def test_each_node_s_launcher_gets_valid_options_and_ignores_the_early_signal(place: Path) -> None:
    code, calls = submit(place)
    assert code == 0
    assert requeued(calls)  # no manifest: stopped in time
    (dry_run,) = [call for call in calls if call["words"][-2:] == ["--dry-run", "--json"]]
    assert dry_run["words"][:2] == ["train", "pretrain"]
    (srun,) = [call for call in calls if call["name"] == "srun"]
    assert "--cpus-per-task=32" in srun["words"]
    started = calls[calls.index(srun) + 1]
    words, options = started["words"], started["words"][started["words"].index("--") + 1 :]
    assert words[:6] == ["train", "pretrain", "mine.yaml", "--set", "max_steps=5", "seed=1"]
    assert started["ignores_usr1"]
    assert started["environment"]["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    chosen = dict(zip(options[::2], options[1::2], strict=True))
    assert chosen["--num_machines"] == "2"
    assert chosen["--num_processes"] == "16"
    assert chosen["--machine_rank"] == "1"
    assert chosen["--main_process_ip"] == "node-a"
    assert chosen["--max_restarts"] == "3"
    assert chosen["--log_dir"] == "logs/7"
    # accelerate knows them all, and the config of that name comes with the package.
    assert words[words.index("--accelerate-config") + 1] == "several-nodes"
    assert accelerate_options(config_file=Path("several-nodes"), more=options)[-len(options) :] == options


@pytest.mark.parametrize(
    ("environment", "code", "again"),
    [
        ({"FINISHES": "1"}, 0, False),
        ({"RUN_CODE": "143"}, 0, True),
        ({"RUN_CODE": "137"}, 0, True),
        ({"RUN_CODE": "1"}, 1, False),
        ({"RUN_CODE": "143", "SLURM_RESTART_COUNT": "50"}, 0, False),
    ],
    ids=["finished", "SIGTERM", "SIGKILL", "error", "too often"],
)
def test_only_what_was_stopped_is_queued_again(
    place: Path, environment: dict[str, str], code: int, again: bool
) -> None:
    found, calls = submit(place, **environment)
    assert (found, requeued(calls)) == (code, again)


def test_what_a_run_would_be_refused_for_takes_no_nodes(place: Path) -> None:
    code, calls = submit(place, DRY_RUN_CODE="2")
    assert code == 2
    assert not [call for call in calls if call["name"] == "srun"]
    assert not requeued(calls)


def test_bash_can_read_it_and_a_log_is_not_lost_when_it_is_queued_again() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    header = [line for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"#SBATCH --open-mode=append", "#SBATCH --requeue", "#SBATCH --signal=USR1@300"} <= set(header)
