"""The names of a run's repos and of the branches in them, and the words that the Hub knows.

A branch of the checkpoints is named `phase07-step000245-tokens878K` and tagged `phase07`, the same form for every phase
(`phase26-4k-...` for the 4K variant) and every scale; its optimizer state is the branch of that name and `-optimizer`.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from data_recipes.recipes.phases import phase_folder, phase_key
from hub_cards.errors import HubError

REVISION_NAME = re.compile(
    r"phase(?P<phase>\d{2}(?:-4k)?)-step(?P<step>\d{6,})-tokens(?P<tokens>\d+(?:\.\d+)?[KMBT]?)(?P<optimizer>-optimizer)?"
)
OPTIMIZER = "-optimizer"  # at the end of the name of the branch that holds a checkpoint's optimizer state as well
UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@cache
def vocabulary() -> dict[str, list[str]]:
    """The words that the Hub knows: lists of licences, languages, tags and metadata keys by name."""
    return yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))


def registered_benchmarks() -> dict[str, dict[str, Any]]:
    """Data sets whose scores the Hub shows: which task, configuration, split and number of questions is registered."""
    return cast("dict[str, dict[str, Any]]", vocabulary()["registered_benchmarks"])


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


def tag_name(phase: str) -> str:
    """The tag of the checkpoint at the end of a phase: `phase07` for 7, `phase26-4k` for 26-4k."""
    return phase_folder(phase).replace("phase-", "phase", 1)


def revision_name(phase: str, step: int, tokens: int) -> str:
    """The branch of the checkpoint at the end of `phase`, after `step` updates on `tokens` tokens."""
    return f"{tag_name(phase)}-step{step:06d}-tokens{short_count(tokens)}"


def parse_revision(name: str) -> tuple[str, int]:
    """(phase, step) of a revision's name, as in ("26-4k", 253006); HubError for a name of another form."""
    match = REVISION_NAME.fullmatch(name)
    if match is None:
        raise HubError(f"revision '{name}': expected a name like phase07-step000245-tokens878K.")
    return phase_key(match["phase"]), int(match["step"])
