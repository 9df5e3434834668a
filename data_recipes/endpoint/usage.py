"""What a run has asked, got and spent: for the progress bar, and for the summary afterwards."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from time import monotonic
from typing import Any

from data_recipes.endpoint.request import Answer


@dataclass
class Usage:
    """Counts of requests and tokens; those of several processes add up with `add`.

    `asked`: requests to the server, each counted once however often it was tried. `kept`: answers that were there from
    an earlier run or question. `retried` and `failed` count by reason (`429`, `timeout`, ...). Tokens are the server's
    own counts; `uncounted` answers came without.
    """

    asked: int = 0
    answered: int = 0
    kept: int = 0
    unfinished: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=monotonic, compare=False)

    def count(self, answer: Answer) -> None:
        """An answer of the server."""
        self.answered += 1
        self.unfinished += answer.finish_reason == "length"
        if answer.completion_tokens is None:
            self.uncounted += 1
        self.prompt_tokens += answer.prompt_tokens or 0
        self.completion_tokens += answer.completion_tokens or 0

    def add(self, other: "Usage") -> None:
        """Take in the counts of another process."""
        for name in _counts():
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def seconds(self) -> float:
        return monotonic() - self.began

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens a second since this was made: what the server writes, over all requests at once."""
        return self.completion_tokens / max(self.seconds, 1e-9)

    def seconds_left(self, done: int, total: int) -> float | None:
        """At the pace so far, for `total - done` more of what the caller counts; None before the first."""
        return self.seconds * (total - done) / done if done else None

    def cost(self, price_in: float, price_out: float) -> float:
        """In the currency of the prices, which are for a million tokens of prompts and of answers."""
        return (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6

    def line(self) -> str:
        """For a progress bar: `1,204 tokens/s, 3 retried, 1 failed`."""
        parts = [f"{self.tokens_per_second:,.0f} tokens/s"]
        counted = (("from cache", self.kept), ("retried", self.retried.total()), ("failed", self.failed.total()))
        return ", ".join(parts + [f"{number:,} {name}" for name, number in counted if number])

    def to_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        return {
            name: dict(sorted(value.items())) if isinstance(value := getattr(self, name), Counter) else value
            for name in _counts()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Usage":
        given: dict[str, Any] = {
            name: Counter(value) if isinstance(value, dict) else value for name, value in values.items()
        }
        return cls(**given)


def _counts() -> list[str]:
    return [each.name for each in fields(Usage) if each.name != "began"]
