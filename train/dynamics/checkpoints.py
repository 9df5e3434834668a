"""A checkpoint of a series, wherever it lies: a model folder, a training checkpoint of a run, or a model on the Hub.

Tensors are read one at a time, so a checkpoint costs no more memory than its largest tensor.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers import AutoConfig

from data_recipes.errors import first_line
from data_recipes.manifest import MANIFEST_NAME, fingerprint_of, read_manifest, sha256_file
from modeling_yulanmini import YuLanMiniConfig
from modeling_yulanmini.checkpoint_reader import CONFIG_NAME, MODEL_TYPES, TOKENIZER_FILES, ModelFolder, read_config
from modeling_yulanmini.configuration_yulanmini import CheckpointError
from modeling_yulanmini.modeling_yulanmini import saved_name
from train.checkpoints.rebalance import is_checkpoint
from train.checkpoints.sharded import TRAINER_FILE, checkpoints_in, read_trainer
from train.checkpoints.tensors import CheckpointEntries
from train.errors import TrainError

HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")
# What the merge writes, and what the published checkpoints are.
STOCK_TYPES = ("llama", "qwen2")
FILES = (CONFIG_NAME, "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES)


class Weights(Protocol):
    """The tensors of a checkpoint under their published names."""

    def shapes(self) -> dict[str, tuple[int, ...]]: ...

    def read(self, name: str) -> torch.Tensor:
        """One tensor in float32, finite, or an error that names it."""


@dataclass(frozen=True)
class Checkpoint:
    """What is measured: `step` is that of the training run, `tokenizer` a folder; None where there is none."""

    name: str
    config: Any
    weights: Weights
    tokenizer: Path | None
    step: int | None
    identify: Callable[[], str]

    @cached_property
    def fingerprint(self) -> str:
        """What the checkpoint is, wherever it lies; reads every file, so it is taken when it is needed."""
        return self.identify()


class FolderWeights:
    """Those of a model folder (safetensors)."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: stored.shape for name, stored in self._folder.tensors.items()}

    def read(self, name: str) -> torch.Tensor:
        return self._folder.read(name, dtype=torch.float32)


class ShardedWeights:
    """Those of a training checkpoint; its optimizer state is not read."""

    def __init__(self, folder: Path) -> None:
        self._entries = CheckpointEntries(folder)
        tensors = self._entries.tensors().items()
        self._stored = {
            saved_name(name.removeprefix("model.")): (name, tuple(entry.size))
            for name, entry in tensors
            if name.startswith("model.")
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, (_, shape) in self._stored.items()}

    def read(self, name: str) -> torch.Tensor:
        tensor = self._entries.read(self._stored[name][0]).float()
        if not torch.isfinite(tensor).all():
            raise TrainError(f"{self._entries.folder}: tensor {name} holds NaN or infinity.")
        return tensor


def open_folder(path: Path, *, name: str | None = None) -> Checkpoint:
    """A model folder or a training checkpoint; `CheckpointError` or `TrainError` for anything else."""
    path = Path(path)
    if is_checkpoint(path):
        return _open_sharded(path, name or path.name)
    inside = checkpoints_in(path) if path.is_dir() and not (path / CONFIG_NAME).is_file() else []
    if inside:
        raise TrainError(
            f"{path}: a folder of checkpoints. Name them: {', '.join(str(found) for found in inside[-3:])}."
        )
    folder = ModelFolder(path)
    step = None
    if (path / MANIFEST_NAME).is_file():
        step = read_manifest(path)["counts"].get("step")
    return Checkpoint(
        name=name or path.resolve().name,
        config=_config_of(folder),
        weights=FolderWeights(folder),
        tokenizer=path if folder.tokenizer is not None else None,
        step=step,
        identify=lambda: fingerprint_of(folder.checksums()),
    )


def _open_sharded(path: Path, name: str) -> Checkpoint:
    trainer = read_trainer(path)
    tokenizer = Path(trainer["tokenizer"])
    return Checkpoint(
        name=name,
        config=YuLanMiniConfig.from_dict(trainer["model_config"]),
        weights=ShardedWeights(path),
        tokenizer=tokenizer if tokenizer.is_dir() else None,
        step=trainer["step"],
        # The run, its step and the checksum of each file: hashing would read the optimizer state, twice the weights.
        identify=lambda: fingerprint_of({"run": trainer["fingerprint"], "trainer": sha256_file(path / TRAINER_FILE)}),
    )


def _config_of(folder: ModelFolder) -> Any:
    model_type = folder.config.get("model_type")
    if model_type in MODEL_TYPES:
        return read_config(folder.path / CONFIG_NAME)
    if model_type not in STOCK_TYPES:
        known = ", ".join((YuLanMiniConfig.model_type, *STOCK_TYPES))
        raise CheckpointError(f"{folder.path / CONFIG_NAME}: model_type is {model_type!r}, expected one of {known}.")
    return AutoConfig.from_pretrained(folder.path)


@dataclass(frozen=True)
class Reference:
    """What a user calls a checkpoint: a path, or a Hub id with or without `@revision`, resolved to a commit."""

    path: Path | None
    repo: str = ""
    commit: str = ""

    @property
    def name(self) -> str:
        """A short name; of a Hub id with the commit's beginning."""
        if self.path is not None:
            return self.path.resolve().name
        return f"{self.repo.rpartition('/')[2]}@{self.commit[:7]}"


def resolve(text: str) -> Reference:
    """Path or Hub id; a revision is looked up once, so that a series does not change under its reader."""
    if Path(text).exists():
        return Reference(Path(text))
    found = HUB_ID.fullmatch(text)
    if found is None or text.startswith((".", "/", "~")):
        raise TrainError(
            f"{text}: no such folder. Give a model folder, RUN/checkpoints/step-N or a Hub id (owner/name)."
        )
    repo, revision = found["repo"], found["revision"]
    try:
        # A copy in the cache answers without network.
        cached = snapshot_download(repo, revision=revision, allow_patterns=[CONFIG_NAME], local_files_only=True)
        return Reference(None, repo, Path(cached).name)
    except LocalEntryNotFoundError:
        pass
    try:
        return Reference(None, repo, str(HfApi().model_info(repo, revision=revision).sha))
    except (HfHubHTTPError, OSError) as error:
        raise TrainError(
            f"{text}: no such folder, not in the Hub's cache, and the Hub did not answer ({first_line(error)})."
        ) from error


@contextmanager
def local_copy(reference: Reference, downloads: Path, *, drop: bool) -> Iterator[Path]:
    """The checkpoint's folder. With `drop`, what is not in the Hub's cache yet is fetched to `downloads` (which a
    killed run leaves, and the next continues) and removed afterwards."""
    if reference.path is not None:
        yield reference.path
        return
    options: dict[str, Any] = {"revision": reference.commit, "allow_patterns": list(FILES)}
    try:
        folder = Path(snapshot_download(reference.repo, local_files_only=True, **options))
        # Config and tokenizer alone are also a snapshot.
        is_cached = any(folder.glob("*.safetensors"))
    except LocalEntryNotFoundError:
        is_cached = False
    if is_cached:
        yield folder
        return
    try:
        if not drop:
            yield Path(snapshot_download(reference.repo, **options))
            return
        place = downloads / f"{reference.repo.replace('/', '--')}@{reference.commit}"
        yield Path(snapshot_download(reference.repo, local_dir=place, **options))
    except HfHubHTTPError as error:
        raise TrainError(f"{reference.repo}: cannot be fetched ({first_line(error)}).") from error
    shutil.rmtree(place)
