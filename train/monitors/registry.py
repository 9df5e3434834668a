"""The monitors by name. Each is a small callback that measures one thing at an interval into the step's record.

To add one, subclass `Monitor` (train/monitors/base.py), name it in `MONITORS`, and put its name into `monitors.names`.
"""

from typing import Any

import torch

from train.config import PretrainConfig
from train.errors import TrainError
from train.launch.world import World
from train.monitors.activations import AttentionLogits, HiddenStateVariance, NormOutputVariance
from train.monitors.base import Monitor
from train.monitors.losses import LossBySource
from train.monitors.optimization import Optimization, Weights
from train.monitors.speed import Memory, Speed
from train.monitors.trackers import Trackers

MONITORS: dict[str, type[Monitor]] = {
    "hidden_state_variance": HiddenStateVariance,
    "norm_output_variance": NormOutputVariance,
    "attention_logits": AttentionLogits,
    "optimization": Optimization,
    "weights": Weights,
    "loss_by_source": LossBySource,
    "speed": Speed,
    "memory": Memory,
}


def make_monitors(
    config: PretrainConfig, model: Any, optimizer: torch.optim.Optimizer, world: World
) -> dict[str, Monitor]:
    """The monitors that the config names, the trackers behind them; TrainError for a name that is none."""
    for name in config.monitors.names:
        if name not in MONITORS:
            raise TrainError(f"monitors.names: no monitor '{name}'. Known: {', '.join(MONITORS)}.")
    monitors = {name: MONITORS[name](model, optimizer, world, config) for name in config.monitors.names}
    if config.monitors.trackers:
        monitors["trackers"] = Trackers(model, optimizer, world, config)
    return monitors
