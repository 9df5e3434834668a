"""Memory of one device in a step, tensor by tensor, from shapes alone; and the micro-batch that fits it.

Compared with the peak that torch's memory tracker measures on a CPU in tests/train/model_setup/test_memory.py. On a GPU
the same tensors are counted, less what its fused norm does not keep; a compiled layer keeps fewer, so there the
estimate is on the safe side.
"""

import json
import os
import resource
from dataclasses import dataclass, replace
from functools import cache

import psutil
import torch

from modeling_yulanmini import YuLanMiniConfig
from modeling_yulanmini.counts import PEAK_FLOPS, count_parameters
from modeling_yulanmini.modeling_yulanmini import logits_chunk_tokens
from train.config import PretrainConfig
from train.curriculum.plan import Curriculum, Phase
from train.errors import TrainError
from train.launch.world import World
from train.model_setup.recomputation import recomputed_layers

# Memory of one device in GB (vendors' data sheets).
MEMORY_GB = {"H200": 141, "H100": 80, "H800": 80, "A100": 80, "A800": 80, "B200": 192}
# What CUDA's context, the allocator's fragments and communication buffers take, in GB; torch alone on a host.
OVERHEAD_GB = 4.0
HOST, HOST_OVERHEAD_GB = "CPU", 0.5
# Share of a device that is left free: measured peaks have been up to 6 % from the estimate.
RESERVE = 0.05
DATA_SHEET, THIS_MACHINE = "vendor's data sheet", "this machine"


@dataclass(frozen=True)
class Hardware:
    """`count` devices of `name`, each with `memory` bytes, known from `source`, and `peak` dense bfloat16 FLOP/s.

    `replicas`: so many of them hold each part of a parameter (HSDP).
    """

    name: str
    count: int
    memory: float
    peak: float
    source: str = DATA_SHEET
    replicas: int = 1

    @property
    def overhead(self) -> float:
        """Bytes that are no tensor of the step."""
        return 1e9 * (HOST_OVERHEAD_GB if self.name == HOST else OVERHEAD_GB)

    @property
    def usable(self) -> float:
        """Bytes that an estimate may come to."""
        return (1 - RESERVE) * self.memory


def this_machine() -> Hardware | None:
    """The GPUs of this machine, if they are of a known kind."""
    if not torch.cuda.is_available():
        return None
    device = cuda_device(torch.device("cuda", 0), count=torch.cuda.device_count())
    return device if device.name in MEMORY_GB else None


def this_host() -> Hardware:
    """The host's own memory, or what this process may take of it, as one device of unknown speed."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    total = psutil.virtual_memory().total
    return Hardware(HOST, 1, float(total if allowed == resource.RLIM_INFINITY else min(total, allowed)), 0.0)


def cuda_device(device: torch.device, *, count: int) -> Hardware:
    """`count` GPUs like `device`. All of its memory, not what is free now: a run started again gets the same rows."""
    properties = torch.cuda.get_device_properties(device)
    name = next((known for known in MEMORY_GB if known in properties.name), properties.name)
    return Hardware(name, count, float(properties.total_memory), PEAK_FLOPS.get(name, 0.0), THIS_MACHINE)


def hardware_of(world: World) -> Hardware:
    """What the ranks of a run train on: as many devices as there are ranks, each with the memory of the smallest."""
    if world.device.type == "cuda":
        mine = cuda_device(world.device, count=world.size)
    else:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))  # ranks that share this host's memory
        mine = replace(this_host(), count=world.size, memory=this_host().memory / here, source=THIS_MACHINE)
    return replace(mine, memory=-world.any(-mine.memory)[0], replicas=world.replicas)


def with_fitting_rows(
    curriculum: Curriculum, config: PretrainConfig, model: YuLanMiniConfig, hardware: Hardware
) -> tuple[Curriculum, str]:
    """The curriculum with a number for each `micro_batch_rows: auto`, and a line on what was chosen, if anything was.

    TrainError where not even one row fits. Another choice, as on other hardware, changes only the order of sums.
    """
    chosen: dict[int, int] = {}
    phases = []
    for phase in curriculum.phases:
        if phase.fits_rows:
            rows = rows_that_fit(config, model, phase, hardware)
            if rows == 0:
                needed = peak_bytes(config, model, replace(phase, micro_batch_rows=1), hardware) / 1e9
                raise TrainError(
                    f"micro_batch_rows: auto: one row of phase {phase.name} takes {needed:.1f} GB by estimate, "
                    f"but of a {hardware.name} {hardware.usable / 1e9:.1f} can be used. Use more ranks, "
                    "reshard_after_forward=true, or recomputation.mode=full; micro_batch_rows=1 tries it all the same."
                )
            chosen[phase.context_length] = rows
            phase = replace(phase, micro_batch_rows=rows)
        phases.append(phase)
    if not chosen:
        return curriculum, ""
    rows_at = ", ".join(f"{rows:,} at context {context:,}" for context, rows in chosen.items())
    note = f"micro_batch_rows auto: {rows_at}, by estimate for {hardware.count:,} x {hardware.name}"
    return Curriculum(phases, curriculum.schedule), f"{note} of {hardware.memory / 1e9:.0f} GB"


def rows_that_fit(config: PretrainConfig, model: YuLanMiniConfig, phase: Phase, hardware: Hardware) -> int:
    """The largest micro-batch, a divisor of a device's share, whose estimate fits; 0 if not even one row does."""
    share = max(phase.rows_per_step // hardware.count, 1)
    for rows in sorted((count for count in range(1, share + 1) if share % count == 0), reverse=True):
        if peak_bytes(config, model, replace(phase, micro_batch_rows=rows), hardware) <= hardware.usable:
            return rows
    return 0


def peak_bytes(config: PretrainConfig, model: YuLanMiniConfig, phase: Phase, hardware: Hardware) -> float:
    """Memory that a device needs for the phase at its micro-batch."""
    return sum(memory_parts(config, model, phase, hardware).values()) + hardware.overhead


def memory_parts(config: PretrainConfig, model: YuLanMiniConfig, phase: Phase, hardware: Hardware) -> dict[str, float]:
    """Bytes on one device by use, at the moment of a step at which their sum is largest."""
    parameters, matrices = _parameters(model.to_json_string(use_diff=False))
    compute = 2 if config.precision == "bfloat16" else 4
    embedding = model.vocab_size * model.hidden_size
    layer = (parameters - embedding) / model.num_hidden_layers
    share = max(phase.rows_per_step // hardware.count, 1)
    rows = phase.micro_batch_rows or share
    tokens = rows * phase.context_length
    accumulates, shards = rows < share, hardware.count // hardware.replicas

    kinds = layer_elements(model, fused_norm=hardware.name != HOST)
    again = recomputed_layers(phase.recomputation, model.num_hidden_layers)
    kept_again = kept_when_recomputed(model, selective=phase.recomputation.mode == "selective")
    per_element = compute * tokens
    chunk = min(tokens, logits_chunk_tokens(model.vocab_size, "cpu" if hardware.name == HOST else "cuda"))
    loss = chunk * model.vocab_size * (4 + (compute if compute != 4 else 0)) + 4 * embedding
    # The final norm's input and output, and the gradient that the loss has ready for the latter.
    head = per_element * 4 * model.hidden_size
    backward = per_element * (model.intermediate_size + model.hidden_size)
    extra = per_element * (sum(kinds.values()) - sum(kept_again.values()))
    if phase.recomputation.mode == "budget":  # derived: a share of what lies between a layer's input and all it keeps
        budget = phase.recomputation.budget
        kinds = {kind: round(budget * n + (1 - budget) * kept_again.get(kind, 0)) for kind, n in kinds.items()}

    def moment(layers: int, working: dict[str, float], gradients: float) -> dict[str, float]:
        """What is there while `layers` still wait for their backward pass."""
        plain = layers - sum(again[:layers])
        kept = {
            f"activations: {kind}": float(per_element * (plain * count + (layers - plain) * kept_again.get(kind, 0)))
            for kind, count in kinds.items()
        }
        return {"gradients": 0.0 if accumulates else gradients / shards} | kept | working

    # The loss, when all layers wait; then each layer's backward pass, computed again before it where it was not kept,
    # while gradients take the place of activations.
    depth = model.num_hidden_layers
    moments = [moment(depth, {"activations: head": head, "loss": loss}, 0.0)]
    for above, recomputed in enumerate(reversed(again)):
        working = {"backward of a layer": float(backward + (extra if recomputed else 0))}
        moments.append(moment(depth - above, working, 4.0 * (embedding + above * layer)))
    moments.append(moment(0, {}, 4.0 * parameters))
    worst = max(moments, key=lambda parts: sum(parts.values()))

    # Gathered at once: embedding and head with their gradient, and two layers, or all of them.
    gathered = compute * (2 * embedding + (2 * layer if config.reshard_after_forward else parameters - embedding))
    fixed = {
        "weights": 4.0 * parameters / shards,
        "moments": (8.0 * parameters - (4.0 * matrices if config.optimizer.kind == "muon" else 0)) / shards,
        "gathered weights": float(gathered) if hardware.count > 1 or compute == 2 else 0.0,
        # Whole on each device until the last micro-batch has added to them and they are shared out.
        "accumulated gradients": 4.0 * parameters if accumulates else 0.0,
    }
    if phase.document_mask and config.attention in ("sdpa", "eager"):
        fixed["document mask"] = float(tokens * phase.context_length)
    return fixed | {name: float(value) for name, value in worst.items()}


@cache
def _parameters(model: str) -> tuple[int, int]:
    """All parameters, and those of the layers' matrices, of a config's JSON: a dry run asks hundreds of times."""
    counts = count_parameters(YuLanMiniConfig.from_dict(json.loads(model)))
    parts = counts["parts"]
    return counts["total"] + counts["scales"], parts["attention matrices"] + parts["MLP matrices"]


def layer_elements(model: YuLanMiniConfig, *, fused_norm: bool) -> dict[str, int]:
    """Elements a token leaves in one layer for the backward pass, by the part of the layer that keeps them.

    For attention that keeps no scores (flash, varlen, sdpa). A CPU's norm keeps its input divided by the RMS too.
    """
    hidden, heads = model.hidden_size, model.num_attention_heads
    head_dim = model.head_dim or hidden // heads
    queries, keys = heads * head_dim, (model.num_key_value_heads or heads) * head_dim
    scaled = 1 if model.wesar_weights else 0  # what an alpha's gradient needs
    return {
        "residual stream": (2 + scaled) * hidden,
        "norms": (2 if fused_norm else 4) * hidden + 2,
        "attention": 2 * queries + (2 + 2 * scaled) * keys + heads,
        "MLP": 4 * model.intermediate_size,
    }


def kept_when_recomputed(model: YuLanMiniConfig, *, selective: bool) -> dict[str, int]:
    """The same for a layer that is computed again: its input; selectively, products and attention besides."""
    hidden, heads = model.hidden_size, model.num_attention_heads
    if not selective:
        return {"residual stream": hidden}
    head_dim = model.head_dim or hidden // heads
    queries, keys = heads * head_dim, (model.num_key_value_heads or heads) * head_dim
    return {
        "residual stream": 3 * hidden,
        "attention": 2 * queries + 2 * keys + heads,
        "MLP": 2 * model.intermediate_size,
    }
