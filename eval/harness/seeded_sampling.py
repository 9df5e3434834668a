"""Sampling that gives a row the same answer in whatever batch it stands: noise from a generator of its own.

`transformers` draws all rows of a batch from one generator, so an answer depends on its neighbours. Here each row adds
Gumbel noise from its own seed to its log-probabilities; the largest is then a draw from the softmax (the Gumbel-max
trick), and decoding goes on greedily (`do_sample=False`). What remains of the batch is rounding: a row padded to
another width has logits that differ in their last bits, which matters only where two tokens are as good as tied.
"""

import hashlib
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


def row_seed(seed: int, prompt: Sequence[int], sample: int) -> int:
    """A seed of 63 bits for one of the answers to a prompt (token ids), the same wherever it is computed."""
    digest = hashlib.sha256(f"{seed} {sample} {list(prompt)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class SeededSampling(LogitsProcessor):
    """Turns scores [rows, vocabulary] into those whose largest is a draw at the temperature (above 0).

    One per call of `generate`, with a seed a row. It must come last among the processors.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature {temperature}: drawing needs more than 0; greedy decoding needs no noise.")
        self.seeds, self.temperature = list(seeds), temperature
        self.generators: list[torch.Generator] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(self.seeds) != len(scores):
            raise ValueError(f"{len(self.seeds)} seeds for {len(scores)} rows.")
        if not self.generators:
            self.generators = [torch.Generator(scores.device).manual_seed(seed) for seed in self.seeds]
        noise = torch.stack(
            [
                torch.empty(scores.shape[1], device=scores.device).exponential_(generator=generator)
                for generator in self.generators
            ]
        )
        return scores.float() / self.temperature - noise.log()
