"""Optimizer groups by the kind of parameter: which learning rate and which weight decay each gets.

Rates follow Table 3 and the first released trainer, decay that trainer or the common habit (facts.md 3.1).
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
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
    """Groups for AdamW, each with `name`, `lr_factor` (on the base rate) and the weight decay of its kind."""
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():  # a tied head appears once, as the embedding
        kind, factor = group_of(name), lr_factor(name)
        decays = kind == "matrices" or settings.weight_decay_on == "everything"
        new = {"params": [], "name": kind, "lr_factor": factor, "lr": 0.0}
        new["weight_decay"] = settings.weight_decay if decays else 0.0
        groups.setdefault((kind, factor), new)["params"].append(parameter)
    order = sorted(groups, key=lambda key: (GROUPS.index(key[0]), key[1]))
    return [groups[key] for key in order]


def make_adamw(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.AdamW:
    """Fused AdamW over `groups`; its state is made by `zero_moments` when the parameters are sharded."""
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def zero_moments(optimizer: torch.optim.Optimizer) -> None:
    """AdamW's moments and counters, there from the start, at zero, sharded as the parameters are.

    torch's distributed checkpoints would create missing ones by a step of their own, which leaves the counter at 1 and
    so the first real update with the wrong bias correction.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
