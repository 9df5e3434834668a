"""The proof that a merged model is the unmerged one: their logits, compared, as a record that goes with the weights.

Two differences are kept apart: that of the arithmetic (both in float32; must be next to nothing), and that of
rounding the merged weights to the dtype they are stored in (told as KL divergence and argmax agreement).
"""

from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedConfig

from modeling_yulanmini.checkpoint_reader import ModelFolder
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.streamed_logits import ReadTensor, streamed_logits

# Of the largest |logit|. Float32 through 56 layers stays two orders below, a forgotten scale lies orders above.
FLOAT32_TOLERANCE = 1e-4
PROBE_LENGTH = 128
PROBE_TEXT = (
    "The tide comes in twice a day, because the Earth turns under two bulges of water. 水往低处流，人往高处走。"
    "我们先计算三十七乘以四，再减去二十八。\n"
    "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n"
    "    return total / len(values)\n"
    "If 3x + 5 = 20, then 3x = 15 and therefore x = 5. The answer is 5. In 1969 two people walked on the Moon, "
    "and a third stayed in orbit; nobody has been back since 1972."
)


@dataclass(frozen=True)
class Probes:
    """What the two models are asked: rows of token ids, each at two sets of positions."""

    names: list[str]
    input_ids: torch.Tensor
    position_ids: torch.Tensor


def make_probes(folder: ModelFolder, config: PreTrainedConfig) -> Probes:
    """Random ids, and text where there is a tokenizer; at positions from 0, and spread to the last position.

    Spread positions reach the largest distances and rotation angles of the context at the price of a short row.
    """
    last = config.max_position_embeddings - 1
    length = min(PROBE_LENGTH, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    rows = {"random ids": torch.randint(config.vocab_size, (length,), generator=generator)}
    tokenizer_file = folder.path / "tokenizer.json"
    if tokenizer_file.is_file():
        try:
            ids = Tokenizer.from_file(str(tokenizer_file)).encode(PROBE_TEXT).ids
        except Exception as error:  # the tokenizers library raises bare Exception
            raise CheckpointError(f"{tokenizer_file}: not a usable tokenizer ({error}).") from error
        rows["text"] = torch.tensor(ids * (length // max(1, len(ids)) + 1))[:length]
    short = torch.arange(length)
    spread = torch.linspace(0, last, length, dtype=torch.float64).long()
    names, inputs, positions = [], [], []
    for what, row in rows.items():
        for where, position in ((f"0-{length - 1}", short), (f"0-{last}, spread", spread)):
            names.append(f"{what} at positions {where}")
            inputs.append(row)
            positions.append(position)
    return Probes(names, torch.stack(inputs), torch.stack(positions))


@dataclass(frozen=True)
class Side:
    """A model to compare: its config and a way to its parameters in float32."""

    config: PreTrainedConfig
    read: ReadTensor

    def logits(self, probes: Probes) -> torch.Tensor:
        return streamed_logits(self.config, self.read, probes.input_ids, probes.position_ids)


def compare(source: Side, merged: Side, rounded: Side | None, probes: Probes) -> dict[str, Any]:
    """Compare `source` with `merged` (before rounding) and with `rounded` (as stored; None where that is the same).

    Returns the figures; raises `CheckpointError` where the arithmetic differs by more than the tolerance.
    """
    reference = source.logits(probes)
    candidate = merged.logits(probes)
    largest = float(reference.abs().max())
    by_probe = [float((a - b).abs().max()) for a, b in zip(candidate, reference, strict=True)]
    difference = max(by_probe)
    limit = FLOAT32_TOLERANCE * max(1.0, largest)
    if not difference <= limit:
        worst = probes.names[by_probe.index(difference)]
        raise CheckpointError(
            f"the merged model's logits differ by up to {difference:.3g} (on {worst}), allowed is {limit:.3g}. "
            "Nothing was written. This is a fault of the merge, or of weights too large for float32."
        )
    stored = rounded.logits(probes) if rounded is not None else candidate
    # Row by row: at full size the float64 copies of one row of logits are 200 MB already.
    kl, agree, stored_difference = [], [], 0.0
    for ours, theirs in zip(reference, stored, strict=True):
        log_p, log_q = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
        kl.append(float((log_p.exp() * (log_p - log_q)).sum(-1).mean()))
        agree.append(float((ours.argmax(-1) == theirs.argmax(-1)).double().mean()))
        stored_difference = max(stored_difference, float((theirs - ours).abs().max()))
    return {
        "tokens": probes.input_ids.numel(),
        "float32": {
            "max_abs_logit_difference": difference,
            "max_abs_logit": largest,
            "limit": limit,
        },
        "as_stored": {
            "max_abs_logit_difference": stored_difference,
            "mean_kl": sum(kl) / len(kl),
            "argmax_agreement": sum(agree) / len(agree),
        },
        "by_probe": [
            {
                "probe": name,
                "float32_max_abs_logit_difference": by_probe[row],
                "as_stored_mean_kl": kl[row],
                "as_stored_argmax_agreement": agree[row],
            }
            for row, name in enumerate(probes.names)
        ],
    }
