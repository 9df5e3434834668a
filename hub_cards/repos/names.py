"""The names of a run's repos and of the branches in them, and the words that the Hub knows.

A branch of the checkpoints is named `phase07-step000245-tokens878K`, the same form for every phase and every scale.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from hub_cards.errors import HubError

REVISION_NAME = re.compile(r"phase(?P<phase>\d{2})-step(?P<step>\d{6,})-tokens(?P<tokens>\d+(?:\.\d+)?[KMBT]?)")
UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@cache
def vocabulary() -> dict[str, list[str]]:
    """The words that the Hub knows: lists of licences, languages, tags and metadata keys by name."""
    return yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))


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
