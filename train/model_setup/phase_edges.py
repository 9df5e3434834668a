"""What changes in a live model between phases: RoPE base, context length, recomputation, scale of the matrices."""

from collections.abc import Iterator
from typing import Any

import torch

from modeling_yulanmini.rebalance import Rebalancing, moment_factor, rebalancing
from train.curriculum.plan import Phase
from train.model_setup.recomputation import set_layer_execution, set_loss_execution


def enter_phase(model: Any, phase: Phase, *, compile: bool) -> None:
    """Put the model into the stage of `phase`; idempotent, so that a resumed run does it too."""
    if phase.rope_theta is not None:
        set_rope_theta(model, phase.rope_theta)
    model.config.max_position_embeddings = phase.context_length
    set_layer_execution(model, phase.recomputation, compile=compile)
    set_loss_execution(compile=compile)


def set_rope_theta(model: Any, theta: float) -> None:
    """Change the RoPE base: frequencies of the rotary embedding, and the config that is exported."""
    config = model.config
    config.rope_parameters = {**config.rope_parameters, "rope_theta": float(theta)}
    rotary = model.model.rotary_emb
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / (float(theta) ** exponents)
    for buffer in ("inv_freq", "original_inv_freq"):
        if getattr(rotary, buffer, None) is not None:
            getattr(rotary, buffer).copy_(frequencies)


@torch.no_grad()
def rebalance_live(model: Any, optimizer: torch.optim.Optimizer) -> Rebalancing:
    """Bring every scaled matrix to their mean RMS, its alpha and AdamW's moments along with it.

    The function of the model stays the same. Collective under sharding. A model without scales is refused earlier
    (train/model_setup/build.py).
    """
    parameters = dict(model.named_parameters())

    def blocks(name: str) -> Iterator[torch.Tensor]:
        parameter = parameters[name]
        whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
        yield whole.double()

    change = rebalancing(sorted(parameters), blocks, rms=None)
    assert change is not None
    for name, factor in change.factors.items():
        parameter = parameters[name]
        parameter.mul_(factor)
        for kind, value in optimizer.state[parameter].items():
            along = moment_factor(kind, factor)
            if along != 1.0:
                value.mul_(along)
    return change
