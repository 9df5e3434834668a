"""A model that answers what a test tells it, and what becomes of a seed: the `make` and `verify` of a kind."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from data_recipes.answers.judge import same_answer
from data_recipes.endpoint.request import Answer, NoAnswer
from data_recipes.synthesis.kinds.base import Checks, Kind, Rejected, Unusable
from eval.code_runner.runner import run_program


class ToldModel:
    """Gives `answers` in turn (a text, or an Answer), and remembers in `asked` what it was asked."""

    def __init__(self, *answers: str | Answer) -> None:
        self.answers = [answer if isinstance(answer, Answer) else Answer(answer, "stop") for answer in answers]
        self.asked: list[dict[str, Any]] = []

    async def __call__(
        self,
        user: str,
        *,
        system: str | None = None,
        history: Sequence[Mapping[str, str]] = (),
        draw: int = 0,
        **settings: Any,
    ) -> Answer:
        self.asked.append({"user": user, "system": system, "history": list(history), "draw": draw, **settings})
        return self.answers[len(self.asked) - 1]


def verdict(kind: Kind, seed: Mapping[str, Any], *answers: str | Answer, checks: Checks | None = None) -> str:
    """`accepted` or `unchecked`, or why not: `rejected: ...`, `failed: ...`, `unusable: ...`."""
    try:
        sample = asyncio.run(kind.make(seed, ToldModel(*answers)))
        if checks:
            sample = kind.verify(sample, checks)
    except Rejected as error:
        return f"rejected: {error}"
    except NoAnswer as error:
        return f"failed: {error}"
    except Unusable as error:
        return f"unusable: {error}"
    assert set(sample.fields) <= set(kind.fields)
    assert set(kind.text_fields) <= set(sample.fields)
    assert sample.verdict == "accepted"
    return "accepted" if sample.checked else "unchecked"


CHECKS = Checks(same_answer, run_program)
