"""What a rehearsal tries, and what it tells of each thing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """Something that was tried: how, on what, how many things of each sort were compared, and what was wrong."""

    repo: str
    how: str
    what: str
    compared: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str | None = None


@dataclass(frozen=True)
class Job:
    """Something to try; `load(*arguments)` says what it compared, and raises where something is wrong."""

    repo: str
    how: str
    what: str
    load: Callable[..., Mapping[str, int]]
    arguments: tuple[Any, ...]


def differs(expected: Mapping[str, str], there: Mapping[str, str]) -> str:
    """How the files there, by SHA-256, differ from those that are expected; nothing where they do not."""
    wrong = [f"{path} missing" for path in expected if path not in there]
    wrong += [f"{path} of another content" for path in expected if path in there and there[path] != expected[path]]
    wrong += [f"{path}, which is not of it" for path in there if path not in expected]
    return ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")


def summed(checks: list[Check]) -> list[dict[str, Any]]:
    """The checks of each repo in one row for each way of checking."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for check in checks:
        row = rows.setdefault(
            (check.repo, check.how), {"repo": check.repo, "how": check.how, "tried": 0, "right": 0, "seconds": 0.0}
        )
        row["tried"] += 1
        row["right"] += check.problem is None
        row["seconds"] += check.seconds
        counts = row.setdefault("compared", {})
        for unit, count in check.compared.items():
            counts[unit] = counts.get(unit, 0) + count
    repos = list(dict.fromkeys(repo for repo, _ in rows))
    return sorted(rows.values(), key=lambda row: repos.index(row["repo"]))
