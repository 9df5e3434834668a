"""Within a step the host never waits for values of the device: it would stand still until all kernels have run.

On a CPU nothing waits, so what would wait is trapped: a value read by the host, a shape that depends on values, a copy
to the CPU. On a GPU torch itself reports it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_miniature import write_inputs, write_run_config
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_yulanmini.modeling_yulanmini import YuLanMiniMLP
from train.config import PretrainConfig
from train.config_file import load_config
from train.launch.world import enter_world
from train.pretrain import update
from train.run.run import Run

ATEN = torch.ops.aten
WAITS = {
    ATEN._local_scalar_dense.default,  # .item(), float(), bool(), an index without dimensions
    ATEN.equal.default,
    ATEN.is_nonzero.default,
    ATEN.nonzero.default,
    ATEN.masked_select.default,
    ATEN.unique_dim.default,
    ATEN._unique2.default,
    ATEN.repeat_interleave.Tensor,
}
READ = torch.Tensor.tolist
TO_HOST = ("tolist", "cpu", "numpy")


class HostWaits(RuntimeError):
    pass


class Trap(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in WAITS or (function is ATEN.index.Tensor and any(map(is_mask, args[1]))):
            raise HostWaits(str(function))
        if function.namespace == "yulanmini":  # attention: reads lengths here, as the kernel of a GPU does there
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch.Tensor, "tolist", READ)
                return function(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


@contextmanager
def no_host_sync() -> Iterator[None]:
    """On a GPU the real thing; on a CPU the trap."""

    def refuse(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        raise HostWaits("a tensor is copied to the host")

    with pytest.MonkeyPatch.context() as patch:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("error")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")
            return
        for name in TO_HOST:
            patch.setattr(torch.Tensor, name, refuse)
        with Trap():
            yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def run(inputs: Path, tmp_path: Path) -> Iterator[Run]:
    """Over phase 26, whose documents are masked, with accumulation, clipping, the spike guard and all monitors."""
    path = write_run_config(
        inputs,
        tmp_path / "config.yaml",
        data={"dir": str(inputs / "data"), "phases": [1, 26]},
        micro_batch_rows=2,
        monitors={"interval": 100},
        device="auto",
    )
    config = load_config(PretrainConfig, path)
    world = enter_world(config)
    run = Run(config, world)
    yield run
    run.close()


def step(run: Run, number: int, *, trapped: bool) -> dict[str, Any]:
    """A step whose rows lie in memory already, as they do while the step before computes."""
    plan = run.curriculum.at(number)
    run.enter_phase(plan)
    rows = run.reader.read(plan)
    run.reader.get = lambda plan, following: rows  # type: ignore[method-assign]
    if not trapped:
        return update(run, plan)
    with no_host_sync():
        return update(run, plan)


@pytest.mark.gpu
@pytest.mark.parametrize("first", [0, 6], ids=["whole rows", "documents masked"])
def test_the_host_never_waits_within_a_step(run: Run, first: int) -> None:
    step(run, first, trapped=False)  # the optimizer makes its state
    record = step(run, first + 1, trapped=True)
    assert torch.is_tensor(record["loss"])
    assert record["farthest_row"].isfinite()


@pytest.mark.parametrize(
    "read",
    [lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0], lambda x: x.tolist(), lambda x: x.cpu()],
)
def test_the_trap_springs(run: Run, monkeypatch: pytest.MonkeyPatch, read: Any) -> None:
    forward = YuLanMiniMLP.forward

    def reading(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        read(hidden_states)
        return forward(self, hidden_states)

    monkeypatch.setattr(YuLanMiniMLP, "forward", reading)
    with pytest.raises(RuntimeError if torch.cuda.is_available() else HostWaits):
        step(run, 0, trapped=True)
