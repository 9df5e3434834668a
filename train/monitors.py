"""Monitors: small callbacks that measure one thing each at an interval and add it to the step's record.

A monitor's values stay on the device until the loop writes its records, so none of them costs a synchronisation.
To add one, subclass `Monitor`, name it in `MONITORS`, and put its name into `monitors.names` of the config.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from train.config import PretrainConfig
from train.errors import TrainError
from train.world import World


class Monitor:
    """Base: every hook does nothing. `measuring` is set for the steps at the interval."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, world: World, config: PretrainConfig) -> None:
        self.model = model
        self.optimizer = optimizer
        self.world = world
        self.config = config
        self.measuring = False

    def before_step(self, step: int) -> None:
        """Before the first forward pass of update number `step` (from 1)."""

    def before_update(self, record: dict[str, Any]) -> None:
        """After backward and clipping, before the optimizer's step: gradients are there."""

    def after_update(self, record: dict[str, Any]) -> None:
        """After the optimizer's step, gradients still there: add tensors or numbers to `record`."""

    def on_records(self, records: list[dict[str, Any]]) -> list[str]:
        """When records reach the host, in step order; may return warnings to show."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Plain values that must survive a resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class HiddenStateVariance(Monitor):
    """`hidden_state_variance`: variance over all elements of each layer's output, mean over micro-batches and ranks.

    It rises before the loss does in diverging runs (the report's Figure 3), so growth beyond
    `spikes.variance_growth` over the median of the last 16 measurements is a warning.
    """

    HISTORY = 16

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sums: torch.Tensor | None = None
        self._passes = 0
        self._history: list[list[float]] = []
        layers = self.model.model.layers
        for index, layer in enumerate(layers):
            layer.register_forward_hook(self._hook(index, len(layers)))

    def _hook(self, index: int, layers: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not (self.measuring and module.training):
                return
            hidden = output[0] if isinstance(output, tuple) else output
            if self._sums is None:
                self._sums = torch.zeros(layers, device=hidden.device)
            self._sums[index] += hidden.detach().float().var()
            self._passes += index == 0

        return hook

    def before_step(self, step: int) -> None:
        self._sums, self._passes = None, 0

    def after_update(self, record: dict[str, Any]) -> None:
        if self.measuring and self._sums is not None:
            record["hidden_state_variance"] = self.world.sum(self._sums / self._passes) / self.world.size

    def on_records(self, records: list[dict[str, Any]]) -> list[str]:
        warnings = []
        for record in records:
            variance = record.get("hidden_state_variance")
            if variance is None:
                continue
            if len(self._history) == self.HISTORY:
                medians = torch.tensor(self._history).median(dim=0).values
                growth = (torch.tensor(variance) / medians.clamp_min(1e-30)).tolist()
                layer = max(range(len(growth)), key=growth.__getitem__)
                if growth[layer] > self.config.spikes.variance_growth:
                    record["variance_growth"] = growth[layer]
                    warnings.append(
                        f"step {record['step']}: hidden-state variance of layer {layer} is {growth[layer]:.1f} times "
                        "its recent median; a divergence often begins so (watch grad_norm, consider a lower rate)"
                    )
            self._history = [*self._history[-self.HISTORY + 1 :], variance]
        return warnings

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._history = state["history"]


MONITORS: dict[str, type[Monitor]] = {"hidden_state_variance": HiddenStateVariance}


def make_monitors(
    config: PretrainConfig, model: Any, optimizer: torch.optim.Optimizer, world: World
) -> dict[str, Monitor]:
    """The monitors that the config names; TrainError for a name that is none."""
    for name in config.monitors.names:
        if name not in MONITORS:
            raise TrainError(f"monitors.names: no monitor '{name}'. Known: {', '.join(MONITORS)}.")
    return {name: MONITORS[name](model, optimizer, world, config) for name in config.monitors.names}
