"""The chunked loss beside the ordinary one: seconds, peak memory, and the error of the gradients.

    python benchmarks/chunked_loss.py [--tokens 4096] [--vocab 32768] [--hidden 512] [--repeats 5] [--out result.json]

Forward and backward of the head alone, on the CPU, with weights in float32, in bfloat16, and in float32 under bfloat16
autocast. The two take turns; times are medians and the ratio that of neighbours. Memory is the peak of a process of
its own above its start. Errors are relative (Frobenius), against float64 on the same inputs, at a small width and
with as many chunks.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from model_step import resident
from torch import nn

from modeling_yulanmini import linear_cross_entropy
from modeling_yulanmini import modeling_yulanmini as modeling

PRECISIONS = ("float32", "bfloat16", "autocast")


def ordinary_loss(hidden_states: torch.Tensor, head: nn.Linear, targets: torch.Tensor) -> torch.Tensor:
    logits = head(hidden_states)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return nn.functional.cross_entropy(logits, targets, reduction="sum")


def chunked_loss(hidden_states: torch.Tensor, head: nn.Linear, targets: torch.Tensor) -> torch.Tensor:
    return linear_cross_entropy(hidden_states, head, targets)[0]


LOSSES: dict[str, Callable] = {"ordinary": ordinary_loss, "chunked": chunked_loss}


def problem(precision: str, tokens: int, vocab: int, hidden: int) -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    head = nn.Linear(hidden, vocab, bias=False, dtype=torch.bfloat16)
    hidden_states = torch.randn(tokens, hidden).bfloat16()
    if precision == "float32":
        hidden_states = hidden_states.float()
    if precision != "bfloat16":
        head = head.float()
    return hidden_states.requires_grad_(), head, torch.randint(vocab, (tokens,))


def gradients(loss: Callable, precision: str, inputs: tuple[torch.Tensor, nn.Linear, torch.Tensor]) -> Any:
    hidden_states, head, targets = inputs
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        value = loss(hidden_states, head, targets) / len(targets)
    return torch.autograd.grad(value, [hidden_states, head.weight])


def errors(precision: str, chunks: int) -> dict[str, dict[str, float]]:
    """Relative errors of both gradients with `chunks` chunks of 64 tokens, a vocabulary of 4,096 and width 128."""
    modeling.LOGITS_CHUNK_ELEMENTS, modeling.LOGITS_CHUNK_MIN_TOKENS = 64 * 4096, 1
    inputs = problem(precision, chunks * 64, 4096, 128)
    exact_head = nn.Linear(128, 4096, bias=False, dtype=torch.float64)
    exact_head.weight = nn.Parameter(inputs[1].weight.detach().double())
    exact_inputs = (inputs[0].detach().double().requires_grad_(), exact_head, inputs[2])
    exact = gradients(ordinary_loss, "float64", exact_inputs)
    found = {}
    for name, loss in LOSSES.items():
        pairs = zip(("hidden_states", "weight"), gradients(loss, precision, inputs), exact, strict=True)
        found[name] = {of: ((ours.double() - right).norm() / right.norm()).item() for of, ours, right in pairs}
    return found


def peak_memory(name: str, precision: str, shape: tuple[int, int, int]) -> int:
    inputs = problem(precision, *shape)
    at_start = resident("VmRSS")
    gradients(LOSSES[name], precision, inputs)
    return resident("VmHWM") - at_start


def seconds(precision: str, shape: tuple[int, int, int], repeats: int) -> dict[str, Any]:
    inputs = problem(precision, *shape)
    taken: dict[str, list[float]] = {name: [] for name in LOSSES}
    for repeat in range(repeats + 1):
        for name in LOSSES if repeat % 2 else reversed(LOSSES):
            start = time.perf_counter()
            gradients(LOSSES[name], precision, inputs)
            if repeat > 0:
                taken[name].append(time.perf_counter() - start)
    ratios = [ours / theirs for ours, theirs in zip(taken["chunked"], taken["ordinary"], strict=True)]
    return {
        "seconds": {name: statistics.median(values) for name, values in taken.items()},
        "paired_ratio": statistics.median(ratios),
        "paired_ratio_range": [min(ratios), max(ratios)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    shape = (options.tokens, options.vocab, options.hidden)
    results: dict[str, Any] = {"shape": shape, "threads": torch.get_num_threads(), "precisions": {}}
    for precision in options.precisions:
        entry: dict[str, Any] = seconds(precision, shape, options.repeats)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            entry["bytes"] = {name: pool.apply(peak_memory, (name, precision, shape)) for name in LOSSES}
        entry["errors"] = {chunks: errors(precision, chunks) for chunks in (1, 32, 168)}
        modeling.LOGITS_CHUNK_ELEMENTS, modeling.LOGITS_CHUNK_MIN_TOKENS = 2**25, 512
        results["precisions"][precision] = entry
        times = "  ".join(f"{name} {value:.2f} s" for name, value in entry["seconds"].items())
        memory = "  ".join(f"{name} {value / 2**20:.0f} MiB" for name, value in entry["bytes"].items())
        print(f"{precision}: {times}  ratio {entry['paired_ratio']:.3f};  {memory}")
        for chunks, found in entry["errors"].items():
            print(f"  {chunks} chunks, error of the weight's gradient: " + "  ".join(
                f"{name} {of['weight']:.3%}" for name, of in found.items()
            ), flush=True)  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
