"""What does a step of instruction tuning cost on a CPU with TRL's fused head, and with ours?

    python benchmarks/sft_head.py [--repeats 30] [--threads 2] [--out result.json]

Both run forward and backward on the same rows through the same model of the miniature's shape, in turns; losses and
gradients are compared. A figure is the median of the repeats. Exit 1 when ours is not the faster one.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from trl.trainer.utils import add_fused_lm_head

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.tuning.loss import add_sums_head

ROWS, LENGTH, TRAINED_SHARE = 32, 48, 0.2  # a batch of generated dialogues of the miniature
SHAPE = {
    "vocab_size": 2048,
    "hidden_size": 120,
    "intermediate_size": 300,
    "num_hidden_layers": 6,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    theirs = YuLanMiniForCausalLM(YuLanMiniConfig(**SHAPE)).train()
    ours = copy.deepcopy(theirs)
    add_fused_lm_head(theirs, outputs=("log_probs", "entropy", "is_top1"))  # as SFTTrainer does
    add_sums_head(ours)
    input_ids = torch.randint(SHAPE["vocab_size"], (ROWS, LENGTH))
    labels = input_ids.masked_fill(torch.rand(ROWS, LENGTH) > TRAINED_SHARE, -100)
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "labels": labels}
    seconds: dict[str, list[float]] = {"trl": [], "ours": []}
    losses: dict[str, float] = {}
    for _ in range(arguments.repeats + 2):
        for name, model in (("trl", theirs), ("ours", ours)):
            spent, losses[name] = step(name, model, inputs)
            seconds[name].append(spent)
    check_equal(losses, theirs, ours)
    medians = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    result = {
        "tokens": ROWS * LENGTH,
        "threads": arguments.threads,
        "median_seconds": medians,
        "ratio_trl_to_ours": medians["trl"] / medians["ours"],
        "loss": losses,
    }
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(0 if result["ratio_trl_to_ours"] > 1 else 1)


def step(name: str, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Seconds of forward and backward, and the loss; gradients stay on the model."""
    model.zero_grad(set_to_none=True)
    started = time.perf_counter()
    if name == "trl":
        loss = model(**inputs, fused_lm_head=True).loss
    else:
        sums = model(**inputs, sums_head=True)
        loss = sums.summed_loss / sums.tokens
    loss.backward()
    return time.perf_counter() - started, loss.item()


def check_equal(losses: dict[str, float], theirs: Any, ours: Any) -> None:
    """Stop when the two did not compute the same thing."""
    if abs(losses["trl"] - losses["ours"]) > 1e-5 * abs(losses["trl"]):
        sys.exit(f"losses differ: {losses}")
    for (name, one), other in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        if one.grad is not None and not torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-6):
            sys.exit(f"gradients of {name} differ by up to {(one.grad - other.grad).abs().max():.3g}")


if __name__ == "__main__":
    main()
