"""How long a checkpoint takes: what training waits for, what is written beside it, and what a resume reads.

python benchmarks/checkpoint_save.py --config proxy-0.05b --out benchmarks/results/checkpoint-save.json
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from train.checkpoints.sharded import Checkpointer, read_trainer
from train.config import PretrainConfig
from train.config_file import load_config
from train.launch.world import ALONE
from train.model_setup.build import build_model
from train.model_setup.parameter_groups import make_adamw, parameter_groups, zero_moments


def measure(config: PretrainConfig, folder: Path, *, vocab_size: int, repeats: int) -> dict[str, Any]:
    """Medians in seconds over `repeats` saves of the model's weights and moments in float32, and as many loads."""
    model, parametrization = build_model(config, vocab_size=vocab_size, device=torch.device("cpu"))
    optimizer = make_adamw(
        parameter_groups(model, lr_factor=parametrization.lr_factor, settings=config.optimizer), config.optimizer
    )
    zero_moments(optimizer)
    checkpoints = Checkpointer(folder, ALONE, keep_last=1, asynchronous=True)
    waited, whole, checked, loaded = [], [], [], []
    for step in range(repeats + 1):  # the first one allocates the copy
        begun = time.perf_counter()
        checkpoints.save(step, model, optimizer, {})
        waited.append(time.perf_counter() - begun)
        checkpoints.finish()
        whole.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        assert checkpoints.latest() is not None
        checked.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        checkpoints.load(step, model, optimizer)
        loaded.append(time.perf_counter() - begun)
    size = sum(content["bytes"] for content in read_trainer(checkpoints.path_of(repeats))["files"].values())
    checkpoints.close()
    times = {"training_waits": waited, "until_named": whole, "checksums_read": checked, "loaded": loaded}
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": size,
        "seconds": {name: round(statistics.median(values[1:]), 4) for name, values in times.items()},
        "first_save_waits": round(waited[0], 4),
        "megabytes_a_second_until_named": round(size / 1e6 / statistics.median(whole[1:]), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", nargs="+", default=["tiny", "proxy-0.05b"], help="configs by name or path")
    parser.add_argument("--vocab-size", type=int, default=8192, help="where a config leaves it to the tokenizer")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    found = {}
    for name in options.config:
        config = load_config(PretrainConfig, name, ["device=cpu", "precision=float32", "attention=sdpa"])
        folder = Path(tempfile.mkdtemp(prefix="checkpoint-save-"))
        try:
            found[name] = measure(config, folder, vocab_size=options.vocab_size, repeats=options.repeats)
        finally:
            shutil.rmtree(folder)
        print(json.dumps({name: found[name]}, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
