"""What an update costs by `optimizer.kind`, on the miniature's parameters: AdamW fused and compiled, Muon.

    python benchmarks/optimizers.py [--config tiny] [--steps 30] [--out optimizers.json]

Kinds take turns, so that what else the machine does meets all of them; the compiled one is warmed up first.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch

from modeling_yulanmini import YuLanMiniForCausalLM
from train.config import PretrainConfig
from train.config_file import load_config
from train.model_setup.build import model_config
from train.model_setup.optimizers import make_optimizer, zero_moments
from train.model_setup.parameter_groups import parameter_groups

KINDS = ("adamw", "compiled-adamw", "muon")


def updates(config: PretrainConfig, *, vocab_size: int) -> dict[str, torch.optim.Optimizer]:
    """An optimizer of each kind over a model of its own, gradients in place."""
    shape, parametrization = model_config(config, vocab_size=vocab_size)
    optimizers = {}
    for kind in KINDS:
        torch.manual_seed(0)
        model = YuLanMiniForCausalLM(shape)
        settings = config.optimizer.model_copy(update={"kind": kind})
        groups = parameter_groups(model, lr_factor=parametrization.lr_factor, settings=settings)
        optimizers[kind] = make_optimizer(groups, settings)
        zero_moments(optimizers[kind])
        optimizers[kind].found_inf = torch.zeros(())
        for group in optimizers[kind].param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter)
    return optimizers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    optimizers = updates(load_config(PretrainConfig, options.config), vocab_size=options.vocab_size)
    first, seconds = {}, {kind: [] for kind in KINDS}
    for number in range(options.steps + 1):
        for kind, optimizer in optimizers.items():
            began = time.perf_counter()
            optimizer.step()
            took = time.perf_counter() - began
            if number == 0:
                first[kind] = round(took, 3)
            else:
                seconds[kind].append(took)
    result = {
        kind: {
            "milliseconds": round(1000 * median(times), 2),
            "of_adamw": round(median(times) / median(seconds["adamw"]), 2),
            "first_update_seconds": first[kind],
        }
        for kind, times in seconds.items()
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
