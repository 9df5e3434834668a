"""The proof that a merged model is the unmerged one: their logits, compared, as a record that goes with the weights.

Two differences are kept apart: that of the arithmetic (both in float32; must be next to nothing), and that of
rounding the merged weights to the dtype they are stored in (as KL divergence and argmax agreement). Models of any size
are compared: one decoder layer is in memory at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from modeling_yulanmini.checkpoint_reader import ModelFolder
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.modeling_yulanmini import saved_name

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
    """What the two models are asked: rows of token ids, each at two sets of positions, [rows, length] int64."""

    names: list[str]
    input_ids: torch.Tensor
    position_ids: torch.Tensor


Logits = Callable[[Probes], torch.Tensor]


def make_probes(folder: ModelFolder, config: PreTrainedConfig) -> Probes:
    """Random ids, and text where there is a tokenizer; at positions from 0, and spread to the last position.

    Spread positions reach the largest distances and rotation angles of the context at the price of a short row.
    """
    last = config.max_position_embeddings - 1
    length = min(PROBE_LENGTH, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    rows = {"random ids": torch.randint(config.vocab_size, (length,), generator=generator)}
    if folder.tokenizer:
        ids = folder.tokenizer.encode(PROBE_TEXT).ids
        rows["text"] = torch.tensor(ids * (length // max(1, len(ids)) + 1))[:length]
    positions = {
        f"0-{length - 1}": torch.arange(length),
        f"0-{last}, spread": torch.linspace(0, last, length, dtype=torch.float64).long(),
    }
    return Probes(
        [f"{what} at positions {where}" for what in rows for where in positions],
        torch.stack([row for row in rows.values() for _ in positions]),
        torch.stack([*positions.values()] * len(rows)),
    )


@torch.no_grad()
def streamed_logits(config: PreTrainedConfig, read: Callable[[str], torch.Tensor], probes: Probes) -> torch.Tensor:
    """Float32 logits [rows, length, vocabulary] of the model that `config` describes.

    The model's own forward pass runs; hooks fill each decoder layer before it and empty it after. What lies outside
    the layers stays in memory. `read` gives a parameter by its name in the file, as float32.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval()
    # The only tensor of the network that is no parameter is computed from the config, and was not, on meta.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)

    def fill(module: nn.Module, names: list[str], prefix: str = "") -> None:
        # Scales are stored with shape [] or [1].
        values = {name: read(saved_name(prefix + name)).view_as(module.get_parameter(name)) for name in names}
        module.load_state_dict(values, strict=False, assign=True)

    fill(model, [name for name, _ in model.named_parameters() if not name.startswith("model.layers.")])
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    for number, layer in enumerate(model.model.layers):
        inside = [name for name, _ in layer.named_parameters()]
        layer.register_forward_pre_hook(
            lambda layer, _, inside=inside, prefix=f"model.layers.{number}.": fill(layer, inside, prefix)
        )
        layer.register_forward_hook(lambda layer, *_: layer.to("meta") and None)
    # With a mask of ones, positions that leave gaps are not taken for the starts of packed documents.
    mask = torch.ones_like(probes.input_ids)
    output = model(input_ids=probes.input_ids, position_ids=probes.position_ids, attention_mask=mask, use_cache=False)
    return output.logits.float()


def compare(source: Logits, merged: Logits, rounded: Logits | None, probes: Probes) -> dict[str, Any]:
    """Compare `source` with `merged` (before rounding) and with `rounded` (as stored; None where that is the same).

    Returns the figures; raises `CheckpointError` where the arithmetic differs by more than the tolerance.
    """
    reference, candidate = source(probes), merged(probes)
    largest = float(reference.abs().max())
    by_probe = torch.stack([(a - b).abs().max() for a, b in zip(candidate, reference, strict=True)])
    difference = float(by_probe.max())
    limit = FLOAT32_TOLERANCE * max(1.0, largest)
    if not difference <= limit:
        raise CheckpointError(
            f"the merged model's logits differ by up to {difference:.3g} (on {probes.names[int(by_probe.argmax())]}), "
            f"allowed is {limit:.3g}. This is a fault of the merge, or of weights too large for float32."
        )
    stored = rounded(probes) if rounded is not None else candidate
    # Row by row: at full size the float64 copies of one row of logits are 200 MB already.
    kl, agree, stored_difference = [], [], 0.0
    for ours, theirs in zip(reference, stored, strict=True):
        log_p, log_q = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
        kl.append(float((log_p.exp() * (log_p - log_q)).sum(-1).mean()))
        agree.append(float((ours.argmax(-1) == theirs.argmax(-1)).double().mean()))
        stored_difference = max(stored_difference, float((theirs - ours).abs().max()))
    return {
        "tokens": probes.input_ids.numel(),
        "float32": {"max_abs_logit_difference": difference, "max_abs_logit": largest, "limit": limit},
        "as_stored": {
            "max_abs_logit_difference": stored_difference,
            "mean_kl": sum(kl) / len(kl),
            "argmax_agreement": sum(agree) / len(agree),
        },
        "by_probe": [
            {
                "probe": name,
                "float32_max_abs_logit_difference": float(by_probe[row]),
                "as_stored_mean_kl": kl[row],
                "as_stored_argmax_agreement": agree[row],
            }
            for row, name in enumerate(probes.names)
        ],
    }
