"""The base class of monitors: the hooks that the loop calls, in order, and what each may do; and all monitors by name.

A monitor is a small callback that measures one thing at an interval into the step's record. Its values stay on the
device until the loop writes its records, so none of them costs a synchronisation. To add one, write a subclass of
`Monitor` with a `name` into a module of this package: it is found, and on by default.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch.utils.hooks import RemovableHandle

from data_recipes.registry import named_subclasses
from train.config import PretrainConfig
from train.curriculum.batches import MicroBatch
from train.curriculum.plan import Phase
from train.errors import TrainError
from train.launch.world import World


class Monitor:
    """Base: every hook does nothing. `measuring` is set for the steps at the interval."""

    name: ClassVar[str]

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, world: World, config: PretrainConfig) -> None:
        self.model = model
        self.optimizer = optimizer
        self.world = world
        self.config = config
        self.measuring = False

    def before_step(self, step: int) -> None:
        """Before the first forward pass of update number `step` (from 1)."""

    def before_forward(self, phase: Phase, batch: MicroBatch) -> None:
        """Before the forward pass of a micro-batch, which is on the device already."""

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
        """Restore what `state_dict` gave."""


def make_monitors(
    config: PretrainConfig, model: Any, optimizer: torch.optim.Optimizer, world: World
) -> dict[str, Monitor]:
    """The monitors that the config names, or all of them; TrainError for an unknown name."""
    known = named_subclasses(Monitor)
    names = list(known) if config.monitors.names is None else config.monitors.names
    for name in names:
        if name not in known:
            raise TrainError(f"monitors.names: no monitor '{name}'. Known: {', '.join(known)}.")
    return {name: known[name](model, optimizer, world, config) for name in names}


class InnerHooks:
    """Hooks on modules inside the decoder layers, in place for measured steps only.

    torch.compile would trace a hook into its layer's graph and, as every hook knows its layer, compile each layer
    anew until it gives up. While any are in place the layers run uncompiled (train/model_setup/recomputation.py).
    """

    def __init__(self) -> None:
        self._register: list[Callable[[], RemovableHandle]] = []
        self._handles: list[RemovableHandle] = []

    def add(self, register: Callable[[], RemovableHandle]) -> None:
        """`register` puts one hook in place, such as a `partial` of `module.register_forward_hook`."""
        self._register.append(register)

    def place(self, wanted: bool) -> None:
        """Put all hooks in place, or take them away."""
        if wanted and not self._handles:
            self._handles = [register() for register in self._register]
        elif not wanted:
            for handle in self._handles:
                handle.remove()
            self._handles = []


class Gauge:
    """One number for each of several places in the model, gathered over the forward passes of a step and the ranks.

    `mean` or `max`. A layer that is recomputed in the backward pass reports its value twice: that changes neither.
    """

    def __init__(self, places: int, world: World, *, reduction: str) -> None:
        self._values: list[list[torch.Tensor]] = [[] for _ in range(places)]
        self._world = world
        self._reduction = reduction

    def clear(self) -> None:
        for values in self._values:
            values.clear()

    def add(self, place: int, value: torch.Tensor) -> None:
        """A 0-dim tensor for `place`."""
        self._values[place].append(value.detach().float())

    def result(self) -> torch.Tensor | None:
        """float32 [places], on the device; None if some place reported nothing."""
        if not all(self._values):
            return None
        stacks = [torch.stack(values) for values in self._values]
        if self._reduction == "mean":
            return self._world.sum(torch.stack([stack.mean() for stack in stacks])) / self._world.size
        highest = torch.stack([stack.amax() for stack in stacks])
        if self._world.size > 1:
            dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        return highest


class LayerMonitor(Monitor):
    """Base of monitors that measure something in each layer: a gauge for each of `keys`, recorded at the interval."""

    keys: ClassVar[tuple[str, ...]]
    reduction = "mean"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.layers: Sequence[Any] = self.model.model.layers
        self.gauges = {key: Gauge(len(self.layers), self.world, reduction=self.reduction) for key in self.keys}

    def before_step(self, step: int) -> None:
        for gauge in self.gauges.values():
            gauge.clear()

    def after_update(self, record: dict[str, Any]) -> None:
        for key, gauge in self.gauges.items():
            if self.measuring and (measured := gauge.result()) is not None:
                record[key] = measured


def variance(hidden_states: torch.Tensor) -> torch.Tensor:
    """Variance over all elements, 0-dim float32."""
    return hidden_states.detach().float().var()
