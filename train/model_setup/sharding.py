"""Sharding with torch's own FSDP2, the same on CUDA and on gloo/CPU.

accelerate 1.15 leaves CPU processes unsharded without a word, so the order of operations is written out here.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from train.launch.world import World


def shard_model(model: nn.Module, world: World, *, precision: str, reshard_after_forward: bool) -> nn.Module:
    """Shard `model` (a causal LM with `model.layers`) in place over all ranks; each layer is a unit, the rest another.

    Parameters stay float32 (the master weights); with `precision` bfloat16 they are cast for compute, gradients
    are reduced in float32. Embedding and head stay in one unit since they may be tied. Without a process group
    (one rank in float32) the model is left as it is. Outputs keep the compute dtype: the loss is taken in float32
    by the model.
    """
    if not dist.is_initialized():
        return model
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bfloat16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    return model


def sync_gradients(model: nn.Module, enabled: bool) -> None:
    """Reduce gradients in the next backward pass, or only add them up locally (all but the last micro-batch)."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(enabled)
