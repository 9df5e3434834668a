"""Where this process runs: device, rank, number of ranks, threads; and the few collectives that the loop needs.

Works the same under `accelerate launch`, `torchrun` and plain `python`. What accelerate was asked for is read in
train/launch/answers.py.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import AORecipeKwargs, DistributedType, InitProcessGroupKwargs, is_torchao_available
from torch.distributed.device_mesh import init_device_mesh

from train.config import PretrainConfig
from train.errors import TrainError
from train.launch.answers import fsdp_plugin, parallelism

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "fp8": "fp8"}


@dataclass(frozen=True)
class World:
    """This process among its peers. `accelerator`: that of a training run; what only measures needs none.

    `replicas`: so many ranks hold each part of a sharded parameter (HSDP), 1 where every part is held once.
    """

    device: torch.device
    rank: int
    size: int
    accelerator: Accelerator | None = None
    replicas: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` added up over the ranks, in place; stays on its device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_of_parts(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same for what each rank found in its parts of sharded parameters: every part counts once."""
        total = self.sum(tensor)
        return total / self.replicas if self.replicas > 1 else total

    def any(self, *flags: float) -> list[float]:
        """The largest of each flag over the ranks, by gloo: the hosts wait for each other, not for a device."""
        if self.size == 1:
            return list(flags)
        tensor = torch.tensor(flags, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The plain values that the ranks have given, in their order."""
        if self.size == 1:
            return [value]
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, value)
        return parts

    def barrier(self) -> None:
        self.any(0.0)

    def limit_waiting(self, minutes: float) -> None:
        """From here on a collective that takes longer is an error. Collective: the others may still be starting."""
        if self.size == 1:
            return
        self.barrier()
        # torch has no public function for it; torchtitan does the same after its first step.
        for group in list(dist.distributed_c10d._world.pg_map):
            dist.distributed_c10d._set_pg_timeout(timedelta(minutes=minutes), group)

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
        # accelerate keeps them for the life of the process; the next run in it may be of another kind.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


ALONE = World(torch.device("cpu"), 0, 1)


def enter_world(config: PretrainConfig) -> World:
    """Set threads and device, join the process group if there is one; TrainError for a device that is not there."""
    cpu_requested = config.device == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainError("device: cuda is requested, but torch sees no CUDA device. Use device=cpu or auto.")
    if config.device == "cuda" and cpu_requested:
        raise TrainError("device: cuda in the config, but accelerate runs on the CPU. Drop one of the two.")
    on_cpu = cpu_requested or not torch.cuda.is_available()
    if config.threads:
        torch.set_num_threads(config.threads)
    timeout = InitProcessGroupKwargs(timeout=timedelta(minutes=config.timeouts.init_minutes))
    # gloo beside nccl: asynchronous checkpoints are written from host memory.
    backend = {} if on_cpu or "RANK" not in os.environ else {"backend": "cuda:nccl,cpu:gloo"}
    state = PartialState(cpu=on_cpu, **backend, **timeout.to_kwargs())
    if config.threads:
        torch.set_num_threads(config.threads)  # PartialState may have changed it
    if not on_cpu:
        torch.backends.cuda.matmul.allow_tf32 = True  # as published
        torch.backends.cudnn.allow_tf32 = True
    if state.device.type not in ("cpu", "cuda"):
        raise TrainError(f"accelerate: device {state.device}; this trainer runs on CUDA or on the CPU. Use device=cpu.")
    needs_group = config.precision != "float32" and not dist.is_initialized()
    if needs_group:  # sharding over one rank is what keeps fp32 master weights beside bf16 compute
        store = dist.HashStore()
        dist.init_process_group("gloo" if on_cpu else "cuda:nccl,cpu:gloo", store=store, rank=0, world_size=1)
    accelerator = _accelerator(config, state)
    mesh = accelerator.parallelism_config
    replicas = mesh.dp_replicate_size if mesh is not None else 1
    return World(torch.device(state.device), state.process_index, state.num_processes, accelerator, replicas)


def _accelerator(config: PretrainConfig, state: PartialState) -> Accelerator:
    """The engine: FSDP2 over all ranks where there is a process group, else one process as it is."""
    if not dist.is_initialized():
        return Accelerator(cpu=state.device.type == "cpu", mixed_precision="no")
    # accelerate makes FSDP of what it takes for several GPUs, never of CPU ranks or of one process: those it would
    # leave unsharded without a word. This private field is all that it asks; FSDP2 itself runs on gloo.
    # tests/train/model_setup/test_sharding.py counts the sharded parameters.
    state.distributed_type = DistributedType.MULTI_GPU
    mesh = parallelism(state.num_processes)
    if state.num_processes == 1:  # accelerate makes no mesh of one rank, and torch's own would be on any GPU there is
        mesh.device_mesh = init_device_mesh(state.device.type, (1,), mesh_dim_names=("dp_shard_cp",))
    wanted = MIXED_PRECISION[config.precision]
    with _environment_kept():
        accelerator = Accelerator(
            cpu=state.device.type == "cpu",
            mixed_precision=wanted,
            fsdp_plugin=fsdp_plugin(config),
            parallelism_config=mesh,
            kwargs_handlers=[_fp8_recipe(state.device)] if wanted == "fp8" else [],
        )
    if accelerator.mixed_precision != wanted:  # it takes fp16 where a GPU is older than fp8
        raise TrainError(f"precision: {config.precision} cannot be used on {state.device}. Use bfloat16.")
    return accelerator


def _fp8_recipe(device: torch.device) -> AORecipeKwargs:
    """torchao's recipe: scales for each tensor anew, e4m3 forward, e5m2 gradients, weights gathered in bfloat16.

    accelerate leaves out the first and the last linear layer, and those with sides that 16 does not divide.
    """
    if not is_torchao_available():
        raise TrainError("precision: fp8 needs torchao. Install it (pip install torchao), or use bfloat16.")
    from torchao.float8 import Float8LinearConfig

    # A CPU has no such products: torchao then rounds to 8 bits and multiplies in bfloat16, which is for tests.
    return AORecipeKwargs(config=Float8LinearConfig(emulate=device.type == "cpu", pad_inner_dim=True))


@contextmanager
def _environment_kept() -> Iterator[None]:
    """accelerate writes its plugin's settings into the environment, from where child processes would take them."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
