"""The optimizers that a run may ask for by `optimizer.kind`; groups and rates are those of parameter_groups.py.

    adamw            torch's fused AdamW
    compiled-adamw   the same update of a tensor as one torch.compile'd graph
    muon             Muon for the layers' matrices, AdamW for all else: a study

All leave parameters, moments and counters alone where `found_inf` is 1, without asking the host, and hold per parameter
`step`, `exp_avg` and (AdamW) `exp_avg_sq`, sharded as the parameter is. AdamW is element by element, so each rank
updates its shards; Muon gathers one matrix after the other.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Replicate
from torch.optim._muon import _zeropower_via_newtonschulz  # torch.optim.Muon takes no `found_inf` and no shards

from train.config import OptimizerSettings

MUON_MOMENTUM = 0.95  # this and the next two: torch.optim.Muon's defaults
NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS = (3.4445, -4.7750, 2.0315), 5
NORM_EPS = 1e-7
# An orthogonal update of this RMS moves a matrix as far as AdamW's does, so AdamW's rates hold (Moonlight's rule).
ADAMW_RMS = 0.2


class OwnOptimizer(torch.optim.Optimizer):
    """AdamW for every group, by `update`; `kind` muon: Muon for the group of matrices."""

    found_inf: torch.Tensor | None = None

    def __init__(self, groups: list[dict[str, Any]], settings: OptimizerSettings, *, update: Callable[..., None]):
        super().__init__(groups, {"lr": settings.lr, "betas": settings.betas, "eps": settings.eps})
        self.kind, self._update = settings.kind, update

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update of all parameters with a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            device = local(parameters[0]).device
            skipped = self.found_inf if self.found_inf is not None else torch.zeros((), device=device)
            lr = torch.tensor(group["lr"], dtype=torch.float32, device=device)
            if takes_muon(group, self.kind):
                muon_update(parameters, self.state, lr=lr, skipped=skipped, weight_decay=group["weight_decay"])
                continue
            for parameter in parameters:
                state, mine = self.state[parameter], local(parameter)
                if mine.numel() == 0:  # a scale that lies on another rank
                    state["step"].add_((skipped == 0).to(state["step"].dtype))
                    continue
                parts = (mine, local(parameter.grad), local(state["exp_avg"]), local(state["exp_avg_sq"]))
                # As one dimension: the compiled function then has one graph for tensors of any shape.
                flat = (part.view(-1) for part in parts)
                constants = (*group["betas"], group["eps"], group["weight_decay"])
                self._update(*flat, state["step"], lr, skipped, *constants)


def make_optimizer(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over `groups`; its state is made by `zero_moments`."""
    if settings.kind == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
    compiled = settings.kind == "compiled-adamw"
    return OwnOptimizer(
        groups, settings, update=torch.compile(adamw_update, dynamic=True) if compiled else adamw_update
    )


def zero_moments(optimizer: torch.optim.Optimizer) -> None:
    """Moments and counters, there from the start, at zero, sharded as the parameters are.

    torch's distributed checkpoints would create missing ones by a step of their own, which leaves the counter at 1 and
    so the first real update with the wrong bias correction.
    """
    kind = getattr(optimizer, "kind", "adamw")
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
            }
            if not takes_muon(group, kind):
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            optimizer.state[parameter] = state


def takes_muon(group: dict[str, Any], kind: str) -> bool:
    """Whether a group's parameters are updated by Muon: the layers' matrices; embedding and head stay with AdamW."""
    return kind == "muon" and group["name"] == "matrices"


def adamw_update(
    parameter: torch.Tensor,
    gradient: torch.Tensor,
    average: torch.Tensor,
    square: torch.Tensor,
    step: torch.Tensor,
    lr: torch.Tensor,
    skipped: torch.Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None:
    """AdamW as torch has it, in place; nothing changes where `skipped` is 1."""
    keep, count = skipped == 0, step + 1
    first = torch.lerp(average, gradient, 1 - beta1)
    second = square * beta2 + gradient * gradient * (1 - beta2)
    deviation = (second / (1 - beta2**count)).sqrt() + eps
    new = parameter * (1 - lr * weight_decay) - lr / (1 - beta1**count) * first / deviation
    parameter.copy_(torch.where(keep, new, parameter))
    average.copy_(torch.where(keep, first, average))
    square.copy_(torch.where(keep, second, square))
    step.copy_(torch.where(keep, count, step))


def muon_update(
    parameters: list[torch.Tensor], states: Any, *, lr: torch.Tensor, skipped: torch.Tensor, weight_decay: float
) -> None:
    """Muon with Nesterov momentum, in place: of each matrix the orthogonal factor of its averaged gradient.

    A sharded matrix is gathered, made orthogonal on every rank, and each keeps its shard of the result: one
    all-gather a matrix, and the arithmetic is not shared out.
    """
    keep = skipped == 0
    for parameter in parameters:
        state, gradient = states[parameter], parameter.grad
        assert gradient is not None
        average = local(state["exp_avg"])
        new_average = torch.lerp(average, local(gradient), 1 - MUON_MOMENTUM)
        ahead = torch.lerp(local(gradient), new_average, MUON_MOMENTUM)
        rows, columns = parameter.shape
        whole = gathered(parameter, ahead)
        factor = _zeropower_via_newtonschulz(whole, NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, NORM_EPS).to(ahead.dtype)
        update = own_part(parameter, factor) * (ADAMW_RMS * max(rows, columns) ** 0.5)
        mine = local(parameter)
        mine.copy_(torch.where(keep, mine * (1 - lr * weight_decay) - lr * update, mine))
        average.copy_(torch.where(keep, new_average, average))
        state["step"].add_(keep.to(state["step"].dtype))


def gathered(parameter: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """The whole of what each rank holds a part of, cut as `parameter` is."""
    if not isinstance(parameter, DTensor):
        return part
    cut = DTensor.from_local(
        part, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )
    return cut.full_tensor()


def own_part(parameter: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor that every rank has whole, cut as `parameter` is; nothing is sent."""
    if not isinstance(parameter, DTensor):
        return whole
    mesh = parameter.device_mesh
    same = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return local(same.redistribute(placements=parameter.placements))


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a sharded tensor that lies on this rank; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
