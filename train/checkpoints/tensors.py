"""A training checkpoint's entries one at a time: read one, or write a checkpoint whose tensors are made as they go out.

For programs that turn one checkpoint into another; a run in progress uses train/checkpoints/sharded.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import WriteItem

from train.checkpoints.sharded import one_process, write_trainer
from train.errors import TrainError

Entry = tuple[str | int, ...]
AHEAD_BYTES = 1 << 26


@dataclass(frozen=True)
class LazyTensor:
    """A tensor to be written: its shape and dtype now, its values when its turn comes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]


class _KnownReader(dcp.FileSystemReader):
    """Reads with metadata that is read already: unpickling it takes longer than a tensor of a small model."""

    def __init__(self, folder: Path, metadata: Any) -> None:
        super().__init__(folder)
        self._known = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
        return self._known


class CheckpointEntries:
    """What a checkpoint holds, by flat name (`model.model.norm.weight`, `optimizer.param_groups.0.lr`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            self._metadata = dcp.FileSystemReader(self.folder).read_metadata()
        except Exception as error:  # whatever unpickling a damaged file raises
            raise TrainError(f"{folder}: not a checkpoint of a training run ({error}).") from error

    def tensors(self) -> dict[str, TensorStorageMetadata]:
        """Shape and dtype of each tensor."""
        entries = self._metadata.state_dict_metadata.items()
        return {name: entry for name, entry in entries if isinstance(entry, TensorStorageMetadata)}

    def paths(self) -> dict[str, Entry]:
        """Each entry's place in the nested state: flat name -> keys and list positions from the top."""
        return dict(self._metadata.planner_data)

    def read_all(self, names: Sequence[str]) -> dict[str, Any]:
        """Tensors, whole, and other objects by their names. A call takes milliseconds, however little it reads."""
        entries = {name: self._metadata.state_dict_metadata[name] for name in names}
        state = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            if isinstance(entry, TensorStorageMetadata)
            else None
            for name, entry in entries.items()
        }
        try:
            with one_process():
                dcp.load(state, storage_reader=_KnownReader(self.folder, self._metadata), no_dist=True)
        except (RuntimeError, OSError, ValueError, KeyError, dcp.api.CheckpointException) as error:
            if len(names) > 1:  # which one?
                return {name: self.read(name) for name in names}
            raise TrainError(f"{self.folder}: entry {names[0]} cannot be read ({error}).") from error
        return state

    def read(self, name: str) -> Any:
        """One tensor, whole, or one other object."""
        return self.read_all([name])[name]

    def in_turn(self, names: Sequence[str]) -> Callable[[str], Any]:
        """Reads one of these tensors at a time, in this order, and small ones ahead with it."""
        place = {name: index for index, name in enumerate(names)}
        tensors = self.tensors()
        held: dict[str, Any] = {}

        def read(name: str) -> Any:
            if name not in held:
                held.clear()
                ahead, size = [name], 0
                for other in names[place[name] :]:
                    size += tensors[other].size.numel() * tensors[other].properties.dtype.itemsize
                    if size > AHEAD_BYTES:
                        break
                    ahead.append(other)
                held.update(self.read_all(list(dict.fromkeys(ahead))))
            return held.pop(name)

        return read


class _LazySavePlanner(dcp.DefaultSavePlanner):
    """The plan needs shapes only (meta tensors); values are made when the writer asks for them, and let go."""

    def __init__(self, make: dict[str, Callable[[], torch.Tensor]]) -> None:
        super().__init__()
        self._make = make

    def resolve_data(self, write_item: WriteItem) -> Any:
        make = self._make.get(write_item.index.fqn)
        return super().resolve_data(write_item) if make is None else make()


def write_checkpoint(folder: Path, state: dict[str, Any], trainer: dict[str, Any]) -> None:
    """Write nested `state`, with `LazyTensor` leaves, and `trainer.json` into an existing empty folder."""
    make: dict[str, Callable[[], torch.Tensor]] = {}

    def shapes_only(node: Any, name: str) -> Any:
        if isinstance(node, LazyTensor):
            make[name] = node.make
            return torch.empty(node.shape, dtype=node.dtype, device="meta")
        if isinstance(node, dict):
            return {key: shapes_only(value, f"{name}.{key}" if name else key) for key, value in node.items()}
        return node

    try:
        with one_process():
            dcp.save(
                shapes_only(state, ""),
                storage_writer=dcp.FileSystemWriter(folder),
                planner=_LazySavePlanner(make),
                no_dist=True,
            )
    except dcp.api.CheckpointException as error:
        # It wraps what a `make` raised, Ctrl-C included; that is what the caller has to hear.
        failure, _ = next(iter(error.failures.values()))
        raise failure from None
    write_trainer(folder, trainer)
