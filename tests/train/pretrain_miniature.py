"""Three built phases of generated text, a byte tokenizer and a two-layer model: what the pretraining tests train on.

Phases 1 and 2 have context 32, phase 26 has 96, all with 6 steps of 384 tokens: 12 rows, then 4.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from safetensors.torch import load_file
from sft_miniature import write_tokenizer

from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Recipe
from train.monitors.speed import MEASURED_BY_CLOCK
from train.pretrain import main

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "train" / "pretrain.py"
TOKENS_PER_STEP = 384
STEPS_PER_PHASE = 6
PHASES = ((1, 32), (2, 32), (26, 96))
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.02,
}
TOTAL_STEPS = STEPS_PER_PHASE * len(PHASES)


def write_text(path: Path, *, seed: int, documents: int, words: int = 40) -> Path:
    """JSON lines of documents in a made-up language of few words, so that a tiny model learns something at once."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choice("aeioukstnrl") for _ in range(rng.randint(2, 6))) for _ in range(30)]
    lines = []
    for _ in range(documents):
        text = " ".join(rng.choice(vocabulary) for _ in range(rng.randint(5, words)))
        lines.append(json.dumps({"text": text}) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


def write_inputs(folder: Path, *, steps_per_phase: int = STEPS_PER_PHASE) -> Path:
    """Build tokenizer, packed phases and held-out text below `folder`; returns it."""
    tokenizer = write_tokenizer(folder / "tokenizer")
    sources = [
        write_text(folder / "text" / f"{name}.jsonl", seed=seed, documents=120) for seed, name in enumerate(("a", "b"))
    ]
    recipes = [
        Recipe.model_validate(
            {
                "name": f"phase-{phase:02d}",
                "phase": phase,
                "context_length": context,
                "subsets": [
                    {"name": path.stem, "tokens": steps_per_phase * TOKENS_PER_STEP // 2, "source": {"path": str(path)}}
                    for path in sources
                ],
            }
        )
        for phase, context in PHASES
    ]
    build_phases(recipes, folder / "data", tokenizer=tokenizer, store=folder / "store", progress=False)
    for seed, domain in enumerate(("code", "math")):
        write_text(folder / "heldout" / f"{domain}.jsonl", seed=seed + 50, documents=6)
    return folder


def write_run_config(inputs: Path, path: Path, **changes: Any) -> Path:
    """A config of a run over the three phases; `changes` replace whole top-level keys."""
    config = {
        "output_dir": str(path.parent / "run"),
        "model": SHAPE,
        "tokenizer": str(inputs / "tokenizer"),
        "data": {"dir": str(inputs / "data"), "phases": [1, 2, 26]},
        "heldout": {"dir": str(inputs / "heldout"), "bytes_per_domain": 800},
        "tokens_per_step": TOKENS_PER_STEP,
        "threads": 1,
        "device": "cpu",
        "seed": 3,
        "parametrization": {"base_width": 32},
        "optimizer": {"lr": 3e-3},
        "schedule": {"warmup_steps": 4, "annealing": {"start": 26, "floor": 0.005}},
        "stages": [
            {"phases": "1-25", "rope_theta": 10_000},
            {"phases": "26-27", "rope_theta": 490_000, "document_mask": True},
        ],
        "checkpoint": {"every_steps": 4},
        # Not those that read a clock: what they log differs from run to run.
        "monitors": {"interval": 3, "names": ["hidden_state_variance", "optimization", "loss_by_source"]},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config | changes))
    return path


def pretrain(config: Path, *arguments: str) -> int:
    """Run the script's main in this process; returns the exit code."""
    return main([str(config), *arguments])


def environment() -> dict[str, str]:
    """That of the tests without what a launcher would have left there."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "MASTER_ADDR")}
    return kept | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def ranks_command(config: Path, ranks: int, *arguments: str) -> list[str]:
    """`accelerate launch --cpu --num_processes RANKS train/pretrain.py CONFIG ...`"""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--cpu", "--num_processes", str(ranks)]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*launcher, str(SCRIPT), str(config), *arguments]


def launch_ranks(config: Path, ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Train on several ranks, to the end."""
    return launched(ranks_command(config, ranks, *arguments))


def launched(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=280)


def lose_a_rank(config: Path, run: Path, *, rank: int, lines: int) -> subprocess.CompletedProcess[str]:
    """Train on two ranks and `kill -9` one of them once metrics.jsonl has `lines` lines."""
    command = ranks_command(config, 2)
    launcher = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 200
        while len(metrics(run)) < lines and launcher.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        for process in psutil.Process(launcher.pid).children(recursive=True):
            if process.environ().get("RANK") == str(rank):
                process.kill()
        _, told = launcher.communicate(timeout=60)
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, launcher.returncode, "", told)


def run_until(config: Path, run: Path, lines: int, number: signal.Signals) -> int:
    """Train in a process of its own and send it `number` once metrics.jsonl has `lines` lines; its exit code."""
    process = multiprocessing.get_context("fork").Process(target=_end_with_the_code, args=(config,))
    process.start()
    deadline = time.monotonic() + 60
    while len(metrics(run)) < lines and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(process.pid, number)
    process.join(60)
    return process.exitcode


def _end_with_the_code(config: Path) -> None:
    os._exit(pretrain(config))


def metrics(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The log's whole lines without what a clock measured."""
    lines = []
    path = run / name
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        lines.append({key: value for key, value in line.items() if key not in MEASURED_BY_CLOCK})
    return lines


def weights(run: Path, phase: str = "phase-26") -> dict[str, torch.Tensor]:
    return load_file(run / "models" / phase / "model.safetensors")


def same_weights(a: Path, b: Path) -> bool:
    """Whether two runs exported the same bits for every phase."""
    return all(
        torch.equal(tensor, weights(b, phase)[name])
        for phase in ("phase-01", "phase-02", "phase-26")
        for name, tensor in weights(a, phase).items()
    )
