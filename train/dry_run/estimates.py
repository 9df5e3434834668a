"""Memory and time of a phase on given hardware, before anything is started. Estimates, good to some 20 %."""

import re
import resource
from dataclasses import dataclass, replace

import psutil
import torch

from data_recipes.errors import nearest
from modeling_yulanmini import YuLanMiniConfig
from modeling_yulanmini.counts import PEAK_FLOPS, count_parameters, training_flops_per_token
from modeling_yulanmini.modeling_yulanmini import LOGITS_CHUNK_ELEMENTS
from train.config import PretrainConfig
from train.curriculum.plan import Phase
from train.errors import TrainError
from train.model_setup.recomputation import recomputed_layers

# Memory of one device in GB (vendors' data sheets).
MEMORY_GB = {"H200": 141, "H100": 80, "H800": 80, "A100": 80, "A800": 80, "B200": 192}
# Share of the peak that the published run reached: 7,174 tokens/s on an A800 (facts.md 3.3) by PaLM's count of FLOPs.
PUBLISHED_MFU = 0.43
# What CUDA's context, the allocator's fragments and communication buffers take, in GB; torch alone on a host.
OVERHEAD_GB = 4.0
HOST, HOST_OVERHEAD_GB = "CPU", 0.5


@dataclass(frozen=True)
class Hardware:
    """`count` devices of `name`, each with `memory` bytes and `peak` dense FLOP/s in bfloat16."""

    name: str
    count: int
    memory: float
    peak: float


def parse_hardware(text: str) -> Hardware:
    """`56xA800` or `H200`; TrainError names the known ones."""
    match = re.fullmatch(r"(?:(\d+)x)?([A-Za-z]\w*)", text)
    if match is None or match[2].upper() not in MEMORY_GB:
        near = nearest(match[2].upper() if match else text, MEMORY_GB)
        raise TrainError(f"--hardware {text}: expected COUNTxDEVICE such as 8xH100.{near}")
    name = match[2].upper()
    return Hardware(name, int(match[1] or 1), MEMORY_GB[name] * 1e9, PEAK_FLOPS[name])


def memory_parts(config: PretrainConfig, model: YuLanMiniConfig, phase: Phase, devices: int) -> dict[str, float]:
    """Bytes on one device by use: float32 weights, gradients and moments; gathered weights; activations; loss."""
    counts = count_parameters(model)
    parameters = counts["total"] + counts["scales"]
    compute = 2 if config.precision == "bfloat16" else 4
    embedding = model.vocab_size * model.hidden_size
    layer = (parameters - embedding) / model.num_hidden_layers
    rows = phase.micro_batch_rows or max(phase.rows_per_step // devices, 1)
    tokens = rows * phase.context_length
    # Gathered at once: embedding and head with their gradient, and two layers, or all of them.
    gathered = compute * (2 * embedding + (2 * layer if config.reshard_after_forward else parameters - embedding))
    accumulates = rows * devices < phase.rows_per_step
    again = recomputed_layers(phase.recomputation, model.num_hidden_layers)
    kept = _activation_elements(model)
    # Inputs, matrix products and attention outputs stay in selective mode, about half of it all.
    light = kept / 2 if phase.recomputation.mode == "selective" else model.hidden_size
    activations = sum(light if recomputed else kept for recomputed in again) + (kept if any(again) else 0)
    return {
        "weights, gradients, moments": 16.0 * parameters / devices,
        "gathered weights": float(gathered) if devices > 1 or compute == 2 else 0.0,
        "accumulated gradients": 4.0 * parameters if accumulates and devices > 1 else 0.0,
        "activations": float(compute * tokens * activations),
        "loss": 3.0 * 4 * LOGITS_CHUNK_ELEMENTS + 2 * compute * tokens * model.hidden_size,
    }


def _activation_elements(model: YuLanMiniConfig) -> float:
    """Elements a token leaves in one layer for the backward pass: inputs of norms, products, rotations, activation."""
    head_dim = model.head_dim or model.hidden_size // model.num_attention_heads
    queries = model.num_attention_heads * head_dim
    keys = (model.num_key_value_heads or model.num_attention_heads) * head_dim
    return 4 * model.hidden_size + 3 * queries + 4 * keys + 4 * model.intermediate_size


def seconds(model: YuLanMiniConfig, phase: Phase, *, tokens_per_step: int, hardware: Hardware, mfu: float) -> float:
    """Time of the phase's steps at the share `mfu` of the peak, FLOPs as PaLM counts them."""
    flops = training_flops_per_token(model, phase.context_length)["palm"]
    return phase.steps * tokens_per_step * flops / (hardware.count * hardware.peak * mfu)


def rows_that_fit(config: PretrainConfig, model: YuLanMiniConfig, phase: Phase, hardware: Hardware) -> int:
    """The largest micro-batch, a divisor of a device's share, whose estimate fits; 0 if not even one row does."""
    share = max(phase.rows_per_step // hardware.count, 1)
    for rows in sorted((count for count in range(1, share + 1) if share % count == 0), reverse=True):
        parts = memory_parts(config, model, replace(phase, micro_batch_rows=rows), hardware.count)
        overhead = HOST_OVERHEAD_GB if hardware.name == HOST else OVERHEAD_GB
        if sum(parts.values()) + overhead * 1e9 <= hardware.memory:
            return rows
    return 0


def fewer_rows_that_fit(config: PretrainConfig, model: YuLanMiniConfig, phase: Phase, hardware: Hardware) -> int:
    """The same after the phase's own micro-batch has not fitted: fewer rows than that in any case."""
    share = max(phase.rows_per_step // hardware.count, 1)
    fewer = [count for count in range(1, phase.micro_batch_rows or share) if share % count == 0]
    fitting = rows_that_fit(config, model, phase, hardware)
    return max((count for count in fewer if count <= fitting), default=0)


def this_machine() -> Hardware | None:
    """The GPUs of this machine, if they are of a known kind."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    name = next((known for known in MEMORY_GB if known in properties.name), None)
    if name is None:
        return None
    return Hardware(name, torch.cuda.device_count(), float(properties.total_memory), PEAK_FLOPS[name])


def this_host() -> Hardware:
    """The host's own memory, or what this process may take of it, as one device of unknown speed."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    total = psutil.virtual_memory().total
    return Hardware(HOST, 1, float(total if allowed == resource.RLIM_INFINITY else min(total, allowed)), 0.0)
