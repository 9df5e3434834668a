"""What is asked of a card, kept in the repo's provenance.json so that the same card can be made again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hub_cards.errors import HubError
from hub_cards.repos.names import Names

ROLES = ("base", "checkpoints", "instruct", "data")


@dataclass(frozen=True)
class CardSettings:
    """`kind`: one of card.KINDS. `repo_id`: NAMESPACE/NAME of the repo itself. `links`: repos of the same run by their
    role (ROLES), as far as there are any.

    `licence`: asked for by the owner; without it, it follows from the data. `title`: instead of the repo's name.
    `revision` and `phase` ("7", "26-4k"): of a checkpoint's branch. `configs`: of a dataset, the files of each config
    as a pattern (`{"phase-07": "phase-07/*.parquet"}`), in the order in which they are listed.
    """

    kind: str
    repo_id: str
    links: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    title: str | None = None
    revision: str | None = None
    phase: str | None = None
    configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the card is headed with."""
        return self.title or self.repo_id.rpartition("/")[2]

    def written(self) -> dict[str, Any]:
        """As it is kept: what was not asked for is left out."""
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def read(cls, kept: Any) -> "CardSettings":
        """From what `written` gave; HubError for anything else."""
        known = {one.name for one in fields(cls)}
        if not isinstance(kept, dict) or not {"kind", "repo_id"} <= set(kept) <= known:
            raise HubError(f"provenance.json: card is {kept!r:.80}; expected its kind, repo_id and settings.")
        return cls(**kept)


def settings_of_run(kind: str, names: Names, licence: str | None = None, **more: Any) -> CardSettings:
    """What is asked of the card of one of a run's repos, with links to the others."""
    repos = {"checkpoints": names.checkpoints, "base": names.base, "instruct": names.instruct, "data": names.data}
    own = {"phases": "data", "checkpoint": "checkpoints"}.get(kind, kind)
    links = {role: repo for role, repo in repos.items() if role != own}
    return CardSettings(kind, repos[own], links, licence, **more)
