"""Monitors of what the optimizer sees and does: gradients, updates, weights and alphas, by kind of parameter."""

from collections.abc import Iterator
from typing import Any

import torch

from train.model_setup.optimizers import ADAMW_RMS, local
from train.model_setup.parameter_groups import GROUPS, group_of
from train.monitors.base import Monitor


class Optimization(Monitor):
    """`grad_rms`: root mean square of the gradient, after clipping, over all elements of each kind of parameter;
    `update_rms`: of the optimizer's step, learning rate included, weight decay not.

    The step is computed again from the moments, one parameter at a time: no copy of the weights is kept.
    """

    name = "optimization"

    def before_update(self, record: dict[str, Any]) -> None:
        if self.measuring:
            squares = [
                _square_sum([local(p.grad) for p in group["params"] if p.grad is not None], record["loss"].device)
                for group in self.optimizer.param_groups
            ]
            record["grad_rms"] = self._root_mean(squares)

    @torch.no_grad()
    def after_update(self, record: dict[str, Any]) -> None:
        if self.measuring:
            squares = [self._step_squares(group, record["loss"].device) for group in self.optimizer.param_groups]
            record["update_rms"] = self._root_mean(squares) * (1 - record["spike"])

    def _step_squares(self, group: dict[str, Any], device: torch.device) -> torch.Tensor:
        total = torch.zeros((), device=device)
        beta1, beta2 = group["betas"]
        for parameter in group["params"]:
            state = self.optimizer.state[parameter]
            if "exp_avg" not in state:
                continue
            if "exp_avg_sq" not in state:  # Muon's is as large as its rule makes it
                total += ADAMW_RMS**2 * local(parameter).numel()
                continue
            correction1, correction2 = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
            deviation = (local(state["exp_avg_sq"]) / correction2).sqrt_().add_(group["eps"])
            total += (local(state["exp_avg"]) / deviation).square_().sum() / correction1**2
        return total * group["lr"] ** 2

    def _root_mean(self, squares: list[torch.Tensor]) -> torch.Tensor:
        """float32 [kinds], in the order of the optimizer's groups."""
        sizes = [sum(p.numel() for p in group["params"]) for group in self.optimizer.param_groups]
        total = self.world.sum_of_parts(torch.stack(squares))
        return (total / torch.tensor(sizes, dtype=torch.float32).to(total.device, non_blocking=True)).sqrt()

    def on_records(self, records: list[dict[str, Any]]) -> list[str]:
        names = [group["name"] for group in self.optimizer.param_groups]
        for record in records:
            for key in ("grad_rms", "update_rms"):
                if key in record:
                    record[key] = dict(zip(names, record[key], strict=True))
        return []


class Weights(Monitor):
    """`weight_rms`: root mean square of the weights of each kind of parameter; `alphas`: smallest, mean and largest
    of each kind of learnable scale over the layers."""

    name = "weights"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        named = list(self.model.named_parameters())
        self._kinds = {kind: [p for name, p in named if group_of(name) == kind] for kind in GROUPS}
        self._kinds = {kind: parameters for kind, parameters in self._kinds.items() if parameters}
        self._alphas: dict[str, list[torch.nn.Parameter]] = {}
        for name, parameter in named:
            if name.endswith("_alpha"):
                self._alphas.setdefault(name.rpartition(".")[2], []).append(parameter)

    @torch.no_grad()
    def after_update(self, record: dict[str, Any]) -> None:
        if not self.measuring:
            return
        device = record["loss"].device
        squares = [_square_sum([local(p) for p in parameters], device) for parameters in self._kinds.values()]
        # One element each: on the ranks that do not hold it, the sum over nothing is 0.
        alphas = [local(p).sum() for parameters in self._alphas.values() for p in parameters]
        record["weight_rms"] = self.world.sum_of_parts(torch.stack(squares))
        if alphas:
            record["alphas"] = self.world.sum_of_parts(torch.stack(alphas))

    def on_records(self, records: list[dict[str, Any]]) -> list[str]:
        for record in records:
            if "weight_rms" in record:
                record["weight_rms"] = {
                    kind: (total / sum(p.numel() for p in parameters)) ** 0.5
                    for (kind, parameters), total in zip(self._kinds.items(), record["weight_rms"], strict=True)
                }
            if "alphas" in record:
                record["alphas"] = dict(self._by_kind(iter(record["alphas"])))
        return []

    def _by_kind(self, values: Iterator[float]) -> Iterator[tuple[str, list[float]]]:
        for kind, parameters in self._alphas.items():
            own = [next(values) for _ in parameters]
            yield kind, [min(own), sum(own) / len(own), max(own)]


def _square_sum(tensors: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Sum of squares over all elements, 0-dim float32."""
    tensors = [tensor for tensor in tensors if tensor.numel()]
    if not tensors:
        return torch.zeros((), device=device)
    return torch.stack(torch._foreach_norm(tensors)).float().square().sum()
