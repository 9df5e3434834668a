"""Where a finished `yulanmini reproduce` run keeps what cards and repos are made of."""

from dataclasses import dataclass
from pathlib import Path

from data_recipes.recipes.phases import training_order
from hub_cards.errors import HubError

DATA, PRETRAIN, MERGED, SFT, SCORES = "03-data", "04-pretrain", "05-merged", "06-sft", "07-scores"
CORPUS = "01-corpus"

PRETRAIN_MANIFEST = f"{PRETRAIN}/manifest.json"
PRETRAIN_CONFIG = f"{PRETRAIN}/config.yaml"
PRETRAIN_METRICS = f"{PRETRAIN}/metrics.jsonl"
HELDOUT = f"{PRETRAIN}/heldout.jsonl"
CERTIFICATE = f"{MERGED}/merge_certificate.json"
SFT_MANIFEST = f"{SFT}/manifest.json"
SFT_METRICS = f"{SFT}/metrics.jsonl"
CORPUS_MANIFEST = f"{CORPUS}/manifest.json"


def scores_file(model: str) -> str:
    """Scores of "base" or "instruct"."""
    return f"{SCORES}/{model}/scores.json"


@dataclass(frozen=True)
class Names:
    """How the repos of a run are called: `namespace/name`, and the same with an ending."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, repo_id: str) -> "Names":
        """Names that follow from the base model's `namespace/name`; HubError when it is none."""
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


def phase_folders(run: Path) -> list[Path]:
    """Built mixes of the run, in training order (`phase-26-4k` before `phase-26`)."""
    folders = [path for path in (run / DATA).glob("phase-*") if (path / "manifest.json").is_file()]
    return sorted(folders, key=lambda folder: training_order(folder.name))


def phase_models(run: Path) -> list[Path]:
    """Exported models at phase ends, in training order; HubError when there is none."""
    folders = [path for path in (run / PRETRAIN / "models").glob("phase-*") if (path / "config.json").is_file()]
    if not folders:
        raise HubError(f"{run / PRETRAIN / 'models'}: no exported model; finish pretraining first.")
    return sorted(folders, key=lambda folder: training_order(folder.name))
