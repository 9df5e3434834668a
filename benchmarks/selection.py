"""What the selection's two shortcuts are worth: gradients of a batch by one backward pass, and a count sketch.

    python benchmarks/selection.py

Against LESS's own way on the same rows and adapters, in processor time on this machine: one backward pass a dialogue,
then a product with a dense random matrix of signs (drawn anew in blocks, as it does not fit in memory).
"""

import argparse
import json
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from train.selection.gradients import AdapterGradients, Sketch, sketched_gradients
from train.selection.warm_up import trained

DIMENSION, BLOCK = 8192, 4096


def adapted(width: int, layers: int, rank: int) -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=8192,
        hidden_size=width,
        intermediate_size=5 * width // 2,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
    )
    lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    model = get_peft_model(LlamaForCausalLM(shape), lora).eval()
    for parameter in trained(model).values():
        parameter.data.normal_(std=0.02)
    return model


def one_by_one(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Flat gradients, float32 [rows, parameters]."""
    parameters = list(trained(model).values())
    found = []
    for row in range(len(batch["input_ids"])):
        loss = model(**{name: values[row : row + 1] for name, values in batch.items()}).loss
        found.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)]))
    return torch.stack(found)


def dense(flat: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    sums = torch.zeros(len(flat), DIMENSION)
    for block in flat.split(BLOCK, dim=1):
        signs = torch.randint(0, 2, (block.shape[1], DIMENSION), generator=generator, dtype=torch.int8)
        sums += block @ (signs.float() * 2 - 1)
    return sums


def timed(function: Any, repeats: int) -> tuple[Any, float]:
    function()
    start = time.process_time()
    for _ in range(repeats):
        result = function()
    return result, (time.process_time() - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = adapted(given.width, given.layers, given.rank)
    ids = torch.randint(0, 8192, (given.rows, given.tokens))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    sizes = {name: parameter.numel() for name, parameter in trained(model).items()}
    sketch = Sketch(sizes, DIMENSION, seed=0)
    ours, seconds = timed(
        lambda: sketched_gradients(model, AdapterGradients(model), sketch, batch, None), given.repeats
    )
    flat, one = timed(lambda: one_by_one(model, batch), given.repeats)
    projected, product = timed(lambda: dense(flat), 1)
    exact = torch.nn.functional.normalize(flat, dim=1)
    exact = exact @ exact.T

    def off(sketched: torch.Tensor) -> float:
        unit = torch.nn.functional.normalize(sketched, dim=1)
        return float((unit @ unit.T - exact).abs().max())

    result = {
        "parameters of the adapters": sum(sizes.values()),
        "ours, s a dialogue": seconds / given.rows,
        "one by one, s a dialogue": one / given.rows,
        "dense product, s a dialogue": product / given.rows,
        "one by one and dense, to ours": (one + product) / seconds,
        "largest error of a cosine, ours": off(ours),
        "largest error of a cosine, dense": off(projected),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
