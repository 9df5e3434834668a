"""What a run was made on, how long it took and how much energy: hardware.json, a line of figures a session.

A session is one start of the command. It is written with every checkpoint, so that a kill loses what came after the
last one, and a later session is added to those before. Energy is what the machine's own counters say: NVML's of each
GPU, RAPL's of whole processor packages (everything else that ran on them is in it). Where one of them cannot be read,
the figure is null, never an estimate.
"""

import ctypes
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from data_recipes.files import write_whole
from data_recipes.machine import this_machine

HARDWARE_FILE = "hardware.json"
POWERCAP = Path("/sys/class/powercap")


class Counter(Protocol):
    """Something that has counted joules."""

    def joules(self) -> float | None:
        """Since it was made; None if it cannot be read."""


class RaplCounter:
    """The processor packages of this machine. A package's counter starts again at its range, within minutes."""

    def __init__(self, root: Path = POWERCAP) -> None:
        zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        self._zones = [zone for zone in zones if _read(zone / "name").startswith("package")]
        self._last = self._values()
        self._sum = 0.0

    def joules(self) -> float | None:
        now = self._values()
        if not self._zones or self._last is None or now is None:
            self._last = None
            return None
        for zone, before, value in zip(self._zones, self._last, now, strict=True):
            wrapped = int(_read(zone / "max_energy_range_uj") or 0) if value < before else 0
            self._sum += (value - before + wrapped) / 1e6
        self._last = now
        return self._sum

    def _values(self) -> list[int] | None:
        values = [_read(zone / "energy_uj") for zone in self._zones]
        return [int(value) for value in values] if all(values) else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class NvmlCounter:
    """One GPU, since the driver was loaded; the library is the driver's own."""

    def __init__(self, uuid: str) -> None:
        self._first: float | None = None
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
            self._handle = ctypes.c_void_p()
            name = f"GPU-{uuid.removeprefix('GPU-')}".encode()
            if self._library.nvmlInit_v2() or self._library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(self._handle)):
                return
        except (OSError, AttributeError):
            return
        self._first = self._millijoules()

    def joules(self) -> float | None:
        now = self._millijoules() if self._first is not None else None
        return None if now is None or self._first is None else (now - self._first) / 1e3

    def _millijoules(self) -> float | None:
        value = ctypes.c_ulonglong()
        failed = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(value))
        return None if failed else float(value.value)


class Hardware:
    """The sessions of a run. Every rank has one; rank 0 writes what `gather` brings together of all.

    `gather` takes a plain value of this rank and gives the list of all ranks' values.
    """

    def __init__(
        self,
        path: Path,
        device: torch.device,
        *,
        rank: int,
        gather: Callable[[Any], list[Any]],
        first_of_machine: bool = True,
        counters: tuple[Counter | None, Counter | None] | None = None,
    ) -> None:
        self._path, self._rank, self._gather = path, rank, gather
        self._started = time.monotonic()
        on_gpu = device.type == "cuda"
        if on_gpu:
            facts = torch.cuda.get_device_properties(device)
            self._device = facts.name
        else:
            self._device = this_machine()["processor"] or "a processor of unknown name"
        if counters is None:
            counters = (NvmlCounter(str(facts.uuid)) if on_gpu else None, RaplCounter() if first_of_machine else None)
        self._gpu, self._cpu = counters
        self._before = self._sessions() if rank == 0 else []
        self._cores = this_machine()["cores"]

    def sample(self) -> None:
        """Look at the counters that start again after some minutes."""
        if self._cpu is not None:
            self._cpu.joules()

    def write(self, step: int) -> None:
        """Put this session, as it is after `step` steps, behind those before. Collective."""
        mine = {
            "device": self._device,
            "gpu": None if self._gpu is None else [self._gpu.joules()],
            "cpu": None if self._cpu is None else [self._cpu.joules()],
        }
        ranks = self._gather(mine)
        if self._rank != 0:
            return
        devices = [one["device"] for one in ranks]
        session = {
            "devices": {name: devices.count(name) for name in sorted(set(devices))},
            "processes": len(ranks),
            "cores": self._cores,
            "seconds": round(time.monotonic() - self._started, 3),
            "gpu_joules": _total([one["gpu"] for one in ranks]),
            "cpu_joules": _total([one["cpu"] for one in ranks]),
            "last_step": step,
        }
        content = {"sessions": [*self._before, session]}
        write_whole(self._path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def _sessions(self) -> list[dict[str, Any]]:
        try:
            return json.loads(self._path.read_text(encoding="utf-8"))["sessions"]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def _total(readings: Sequence[list[float | None] | None]) -> float | None:
    """The sum over the ranks that have such a counter; None where there is none, or one could not be read."""
    values = [value for reading in readings if reading is not None for value in reading]
    return None if not values or None in values else round(sum(value for value in values if value is not None), 1)
