"""Monitors of the machine: tokens a second, MFU under three conventions, time waiting for data, memory.

What they write differs from run to run on the same machine; the names are in `MEASURED_BY_CLOCK`.
"""

from typing import Any

import torch

from data_recipes.machine import peak_memory
from modeling_yulanmini.counts import peak_flops, training_flops_per_token
from train.curriculum.batches import MicroBatch
from train.curriculum.plan import Phase
from train.monitors.base import Monitor

MEASURED_BY_CLOCK = ("seconds", "waited", "tokens_per_second", "data_wait_share", "mfu", "peak_flops", "memory_gib")


class Speed(Monitor):
    """`tokens_per_second`: tokens of all ranks a second since the last measurement; `data_wait_share`: share of
    that time spent waiting for rows; `mfu`: model FLOPs utilisation by convention (modeling_yulanmini/counts.py), with
    the peak it assumes, `peak_flops`, where that is known or given by `monitors.peak_tflops`."""

    name = "speed"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        given = self.config.monitors.peak_tflops
        on_gpu = self.world.device.type == "cuda"
        known = peak_flops(torch.cuda.get_device_name(self.world.device)) if on_gpu else None
        self._peak = given * 1e12 if given else known
        self._since: list[dict[str, Any]] = []
        self._contexts: dict[str, int] = {}  # by phase: records arrive later

    def before_forward(self, phase: Phase, batch: MicroBatch) -> None:
        self._contexts[phase.name] = phase.context_length

    def on_records(self, records: list[dict[str, Any]]) -> list[str]:
        for record in records:
            self._since.append({key: record.get(key) or 0 for key in ("tokens", "seconds", "waited")})
            if record["step"] % self.config.monitors.interval == 0:
                self._measure(record)
                self._since = []
        return []

    def _measure(self, record: dict[str, Any]) -> None:
        tokens, seconds, waited = (sum(past[key] for past in self._since) for key in ("tokens", "seconds", "waited"))
        if not seconds:
            return
        record["tokens_per_second"] = round(tokens / seconds, 1)
        record["data_wait_share"] = round(waited / seconds, 6)
        if self._peak and record["phase"] in self._contexts:  # not while all rows of a phase are left out
            record["peak_flops"] = self._peak
            per_token = training_flops_per_token(self.model.config, self._contexts[record["phase"]])
            achieved = tokens / seconds / (self.world.size * self._peak)
            record["mfu"] = {convention: flops * achieved for convention, flops in per_token.items()}


class Memory(Monitor):
    """`memory_gib`: the most that this rank's tensors took on the accelerator since the last measurement; on a CPU,
    the most that the process has ever had resident."""

    name = "memory"

    def after_update(self, record: dict[str, Any]) -> None:
        if not self.measuring:
            return
        if self.world.device.type == "cuda":
            used = torch.cuda.max_memory_allocated(self.world.device)
            torch.cuda.reset_peak_memory_stats(self.world.device)
        else:
            used = peak_memory()
        record["memory_gib"] = round(used / 2**30, 3)
