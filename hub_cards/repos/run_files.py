"""The files of a finished run that cards and repos are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_recipes.manifest import MANIFEST_NAME
from data_recipes.recipes.phases import training_order
from hub_cards.errors import HubError


@dataclass(frozen=True)
class RunFiles:
    """A run's folder, and the names of the folders in it that hold the result of each stage, of those that it has.

    `tuned`: the stages that made the instruct model of the merged one, in order, by the names of their scores; the
    last is the instruct model.
    """

    root: Path
    corpus: str = ""
    data: str = ""
    pretrain: str = ""
    merged: str = ""
    tuned: Mapping[str, str] = field(default_factory=dict)
    scores: str = ""

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
        return _in_training_order(self.root / self.data, MANIFEST_NAME) if self.data else []

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
