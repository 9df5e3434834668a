"""Time of a phase on given hardware, before anything is started, and where each estimated figure comes from.

The memory of a step is estimated in train/model_setup/memory.py.
"""

import re

from data_recipes.errors import nearest
from modeling_yulanmini import YuLanMiniConfig
from modeling_yulanmini.counts import PEAK_FLOPS, training_flops_per_token
from train.curriculum.plan import Phase
from train.errors import TrainError
from train.model_setup.memory import DATA_SHEET, MEMORY_GB, Hardware

# Share of the peak that the published run reached: 7,174 tokens/s on an A800 (facts.md 3.3) by PaLM's count of FLOPs.
PUBLISHED_MFU = 0.43


def parse_hardware(text: str) -> Hardware:
    """`56xA800` or `H200`; TrainError names the known ones."""
    match = re.fullmatch(r"(?:(\d+)x)?([A-Za-z]\w*)", text)
    if match is None or match[2].upper() not in MEMORY_GB or match[1] == "0":
        near = nearest(match[2].upper() if match else text, MEMORY_GB)
        raise TrainError(f"--hardware {text}: expected COUNTxDEVICE such as 8xH100.{near}")
    name = match[2].upper()
    return Hardware(name, int(match[1] or 1), MEMORY_GB[name] * 1e9, PEAK_FLOPS[name])


def seconds(model: YuLanMiniConfig, phase: Phase, *, tokens_per_step: int, hardware: Hardware, mfu: float) -> float:
    """Time of the phase's steps at the share `mfu` of the peak, FLOPs as PaLM counts them."""
    flops = training_flops_per_token(model, phase.context_length)["palm"]
    return phase.steps * tokens_per_step * flops / (hardware.count * hardware.peak * mfu)


def provenance(hardware: Hardware, *, mfu: float | None) -> dict[str, dict[str, str]]:
    """For each estimated figure whether it is `measured` or `derived`, and from what; the former is only what was read
    off a device, as no run of this size has been timed."""
    device = {"basis": "measured" if hardware.source != DATA_SHEET else "derived", "from": hardware.source}
    share = "the share of the peak that was given with --mfu"
    if mfu is None:
        share = (
            f"the published run's own hours ({PUBLISHED_MFU:.0%} of an A800's peak): they repeat that figure and "
            "cannot confirm it"
        )
    return {
        "device_memory": device,
        "memory_gb": {
            "basis": "derived",
            "from": "the shapes of all tensors; compared with a measured peak on a CPU only",
        },
        "hours": {"basis": "derived", "from": share},
    }
