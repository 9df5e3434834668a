"""Optimizer groups by the kind of parameter: which learning rate and which weight decay each gets.

Rates follow Table 3 and the first released trainer, decay that trainer or the common habit (facts.md 3.1).
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from train.config import OptimizerSettings

INPUT_MATRICES = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
OUTPUT_MATRICES = ("o_proj", "down_proj")
GROUPS = ("matrices", "embedding", "norms", "biases", "scales")


def matrix_kind(name: str) -> Literal["input", "output"] | None:
    """`input` for QKV and FFN1, `output` for O and FFN2 (Table 3's rows), None for all that is no matrix of a layer."""
    *_, module, leaf = ("", *name.split("."))
    if leaf != "weight":
        return None
    if module in INPUT_MATRICES:
        return "input"
    return "output" if module in OUTPUT_MATRICES else None


def group_of(name: str) -> str:
    """Which of `GROUPS` the parameter `name` belongs to."""
    if matrix_kind(name):
        return "matrices"
    if name.endswith("_alpha"):
        return "scales"
    if name.endswith(".bias"):
        return "biases"
    if "embed_tokens" in name or name.startswith("lm_head"):
        return "embedding"
    return "norms"


def parameter_groups(
    model: nn.Module, *, lr_factor: Callable[[str], float], settings: OptimizerSettings
) -> list[dict[str, Any]]:
    """Groups for the optimizer, each with `name`, `lr_factor` (on the base rate) and the weight decay of its kind."""
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():  # a tied head appears once, as the embedding
        kind, factor = group_of(name), lr_factor(name)
        decays = kind == "matrices" or settings.weight_decay_on == "everything"
        new = {"params": [], "name": kind, "lr_factor": factor, "lr": 0.0}
        new["weight_decay"] = settings.weight_decay if decays else 0.0
        groups.setdefault((kind, factor), new)["params"].append(parameter)
    order = sorted(groups, key=lambda key: (GROUPS.index(key[0]), key[1]))
    return [groups[key] for key in order]
