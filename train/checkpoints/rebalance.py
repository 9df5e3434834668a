"""Re-balance a training checkpoint: matrices to one RMS, scales take up the rest, AdamW's moments moved along.

What is computed stays the same, and so does the direction of the next step; its size relative to the weights changes
as `Rebalancing.steps` says (modeling_yulanmini/rebalance.py).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from data_recipes.manifest import check_new_folder, whole_folder
from modeling_yulanmini.modeling_yulanmini import saved_name
from modeling_yulanmini.rebalance import Rebalancing, moment_factor, rebalancing
from train.checkpoints.sharded import TRAINER_FILE, check_contents, read_trainer
from train.checkpoints.tensors import CheckpointEntries, LazyTensor, write_checkpoint
from train.errors import TrainError


def rebalance_checkpoint(source: Path, destination: Path, *, rms: float | None = None) -> Rebalancing:
    """Write the checkpoint `source` to `destination` with every scaled matrix at root mean square `rms`.

    `rms` defaults to the matrices' mean. Raises `TrainError` for a damaged checkpoint or one without learnable scales.
    """
    check_new_folder(destination)
    check_contents(Path(source), read_trainer(Path(source)))
    entries = CheckpointEntries(Path(source))
    # In the checkpoint a parameter is `model.` and its name in the module, where the head's scale is inside `model`.
    stored = {saved_name(name.removeprefix("model.")): name for name in entries.tensors() if name.startswith("model.")}

    def blocks(name: str) -> Iterator[torch.Tensor]:
        yield entries.read(stored[name]).double()

    change = rebalancing(sorted(stored), blocks, rms=rms)
    if change is None:
        raise TrainError(f"{source}: a model without learnable scales (wesar_weights off); nothing to re-balance.")
    scaled_checkpoint(source, destination, lambda name: factor_of(name, change.factors))
    return change


def scaled_checkpoint(source: Path, destination: Path, factor: Callable[[str], float]) -> None:
    """Write the checkpoint `source`, whose contents are checked, to `destination`, each tensor times what `factor` says
    of its flat name."""
    trainer, entries = read_trainer(Path(source)), CheckpointEntries(Path(source))
    tensors = entries.tensors()

    def scaled(name: str) -> LazyTensor:
        entry = tensors[name]
        return LazyTensor(tuple(entry.size), entry.properties.dtype, lambda: scale(entries.read(name), factor(name)))

    state: dict[str, Any] = {}
    for name, path in entries.paths().items():
        place(state, path, scaled(name) if name in tensors else entries.read(name))
    with whole_folder(destination) as folder:
        for random_state in sorted(Path(source).glob("rng-*.pt")):
            (folder / random_state.name).write_bytes(random_state.read_bytes())
        write_checkpoint(folder, as_lists(state), {key: trainer[key] for key in trainer if key != "files"})


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a training checkpoint, not a model folder."""
    return (Path(path) / TRAINER_FILE).is_file() and (Path(path) / ".metadata").is_file()


def factor_of(name: str, factors: dict[str, float]) -> float:
    """What the checkpoint's tensor `name`, a parameter or a moment of one, is multiplied by."""
    if name.startswith("model."):
        return factors.get(saved_name(name.removeprefix("model.")), 1.0)
    parameter, _, kind = name.removeprefix("optimizer.state.").rpartition(".")
    return moment_factor(kind, factors.get(saved_name(parameter), 1.0))


def scale(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    """The product, formed in float64 and rounded once; untouched where there is nothing to do."""
    return tensor if factor == 1.0 else (tensor.double() * factor).to(tensor.dtype)


def place(state: dict[Any, Any], path: tuple[str | int, ...], value: Any) -> None:
    """Put a value at its place in nested dicts; list positions are integer keys until `as_lists`."""
    for key in path[:-1]:
        state = state.setdefault(key, {})
    state[path[-1]] = value


def as_lists(node: Any) -> Any:
    """Dicts whose keys are 0, 1, 2, ... as lists."""
    if not isinstance(node, dict):
        return node
    if node and all(isinstance(key, int) for key in node):
        return [as_lists(node[index]) for index in range(len(node))]
    return {key: as_lists(value) for key, value in node.items()}
