"""The files of a finished run that cards and repos are made of, and the names of its repos and revisions.

A revision is named `phase07-step000245-tokens878K`, the same form for every phase and every scale.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_recipes.manifest import MANIFEST_NAME
from data_recipes.recipes.phases import training_order
from hub_cards.errors import HubError

REVISION_NAME = re.compile(r"phase(?P<phase>\d{2})-step(?P<step>\d{6,})-tokens(?P<tokens>\d+(?:\.\d+)?[KMBT]?)")
UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@dataclass(frozen=True)
class RunFiles:
    """A run's folder, and the names of the folders in it that hold the result of each stage.

    `tuned`: the stages that made the instruct model of the merged one, in order, by the names of their scores; the
    last is the instruct model.
    """

    root: Path
    corpus: str
    data: str
    pretrain: str
    merged: str
    tuned: Mapping[str, str]
    scores: str

    @property
    def pretrain_manifest(self) -> str:
        return f"{self.pretrain}/{MANIFEST_NAME}"

    @property
    def instruct(self) -> str:
        """The folder of the instruct model."""
        return list(self.tuned.values())[-1]

    @property
    def models(self) -> list[str]:
        """The models that are scored, from the base to the instruct model."""
        return ["base", *self.tuned]

    def scores_file(self, model: str) -> str:
        """Scores of one of `models`."""
        return f"{self.scores}/{model}/scores.json"

    def phase_folders(self) -> list[Path]:
        """Built mixes of the run, in training order."""
        return _in_training_order(self.root / self.data, MANIFEST_NAME)

    def phase_models(self) -> list[Path]:
        """Exported models at phase ends, in training order; HubError when there is none."""
        folder = self.root / self.pretrain / "models"
        models = _in_training_order(folder, "config.json")
        if not models:
            raise HubError(f"{folder}: no exported model; finish pretraining first.")
        return models

    def check_finished(self) -> None:
        """HubError where a stage that repos are made of is missing."""
        self.phase_models()
        for stage in (self.merged, *self.tuned.values(), self.data):
            if not (self.root / stage).is_dir():
                raise HubError(f"{self.root / stage}: missing. Finish the run first; the same command resumes it.")


def _in_training_order(folder: Path, file: str) -> list[Path]:
    """The phases below `folder` that hold `file`."""
    phases = [path for path in folder.glob("phase-*") if (path / file).is_file()]
    return sorted(phases, key=lambda path: training_order(path.name))


@dataclass(frozen=True)
class Names:
    """The names of a run's repos: `namespace/name`, and the same with a suffix."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, repo_id: str) -> "Names":
        """Names that follow from the base model's `namespace/name`; HubError for another form."""
        namespace, slash, name = repo_id.partition("/")
        if not (slash and namespace and name) or "/" in name:
            raise HubError(f"repo id '{repo_id}': expected NAMESPACE/NAME.")
        return cls(namespace, name)

    @property
    def base(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def checkpoints(self) -> str:
        return f"{self.base}-checkpoints"

    @property
    def instruct(self) -> str:
        return f"{self.base}-instruct"

    @property
    def data(self) -> str:
        return f"{self.base}-data"


def short_count(tokens: int) -> str:
    """A count with three significant digits and a unit: 1,080,000,000,000 -> 1.08T."""
    for size, unit in UNITS:
        if round(tokens / size, 2) >= 1:
            return f"{float(f'{tokens / size:.3g}'):g}{unit}"
    return str(tokens)


def revision_name(phase: int, step: int, tokens: int) -> str:
    """The branch of the checkpoint at the end of `phase`, after `step` updates on `tokens` tokens."""
    return f"phase{phase:02d}-step{step:06d}-tokens{short_count(tokens)}"


def parse_revision(name: str) -> tuple[int, int]:
    """(phase, step) of a revision's name; HubError for a name of another form."""
    match = REVISION_NAME.fullmatch(name)
    if match is None:
        raise HubError(f"revision '{name}': expected a name like phase07-step000245-tokens878K.")
    return int(match["phase"]), int(match["step"])
