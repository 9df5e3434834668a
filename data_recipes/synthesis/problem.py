"""Program-generated problems in English and Chinese whose answers are computed, never written down.

A kind of problem draws operands, solves them, and shows its work; `problem_forms.yaml` holds the ways of
asking. A problem's identity is its kind and operands, whatever the language or wording: `is_heldout` splits
on it, so no problem is both trained on and scored.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

import yaml

from data_recipes.errors import DataError

LANGUAGES = ("en", "zh")
HELDOUT_PERCENT = 10
ANSWER_MARK = {"en": "Answer: ", "zh": "答案："}


@cache
def load_words(name: str) -> Any:
    """A YAML file of this package: `problem_forms` or `lexicon`."""
    return yaml.safe_load((files("data_recipes.synthesis") / f"{name}.yaml").read_text(encoding="utf-8"))


def words(group: str, language: str) -> list[str]:
    """The lexicon's words of a group, in the same order in each language."""
    column = LANGUAGES.index(language)
    return [pair[column] for pair in load_words("lexicon")[group]]


class Kind:
    """One kind of problem. Operands are plain numbers (indices for words), the same in every language."""

    name: str
    level: int  # 1 is easiest
    weight: float = 1.0  # share among the kinds of its level

    def draw(self, rng: Random) -> tuple[Any, ...]:
        """Operands of a new problem."""
        raise NotImplementedError

    def solve(self, operands: tuple[Any, ...]) -> Any:
        """The answer, computed directly."""
        raise NotImplementedError

    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        """What the forms of `problem_forms.yaml` name."""
        raise NotImplementedError

    def answer(self, operands: tuple[Any, ...], language: str) -> str:
        """The answer as it is written in a language."""
        return str(self.solve(operands))

    def work(self, operands: tuple[Any, ...], language: str) -> tuple[list[str], Any]:
        """Worked steps and the result they arrive at by another way than `solve`; no steps for level 1."""
        return [], self.solve(operands)

    def identity(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """What makes two problems the same one: equal identities lie on the same side of the split."""
        return (self.name, *operands)

    def chance(self, operands: tuple[Any, ...]) -> float:
        """Probability of a right answer for one who knows only which answers are possible."""
        raise NotImplementedError


@dataclass(frozen=True)
class Problem:
    """A problem put into words of one language."""

    kind: str
    level: int
    language: str
    operands: tuple[Any, ...]
    question: str
    steps: tuple[str, ...]
    answer: str
    chance: float

    @property
    def response(self) -> str:
        """What the assistant says: the bare answer, or the steps and then the marked answer."""
        if not self.steps:
            return self.answer
        return "\n".join([*self.steps, ANSWER_MARK[self.language] + self.answer])


def is_heldout(kind: Kind, operands: tuple[Any, ...]) -> bool:
    """Whether a problem belongs to the held-out side: a hash of its identity, independent of the seed."""
    digest = hashlib.sha256(repr(kind.identity(operands)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELDOUT_PERCENT


def put_into_words(kind: Kind, operands: tuple[Any, ...], language: str, rng: Random) -> Problem:
    """Ask, solve and check: the worked steps must arrive at the solver's answer."""
    solution = kind.solve(operands)
    steps, result = kind.work(operands, language)
    if result != solution:
        raise AssertionError(f"{kind.name}{operands}: the steps give {result}, the solver {solution}")
    form = rng.choice(load_words("problem_forms")[kind.name][language])
    return Problem(
        kind=kind.name,
        level=kind.level,
        language=language,
        operands=operands,
        question=form.format(**kind.fields(operands, language)),
        steps=tuple(steps),
        answer=kind.answer(operands, language),
        chance=kind.chance(operands),
    )


def all_kinds() -> dict[str, Kind]:
    """Every kind by name, easiest first."""
    from data_recipes.synthesis import arithmetic as synthesis_arithmetic
    from data_recipes.synthesis import basic as synthesis_basic
    from data_recipes.synthesis import calendar as synthesis_calendar

    kinds = [*synthesis_basic.KINDS, *synthesis_arithmetic.KINDS, *synthesis_calendar.KINDS]
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: kind.level)}


class ProblemSource:
    """Draws problems of one side of the split; the same seed gives the same problems.

    `level_weights` gives the share of each level; kinds share their level by their own weight.
    """

    def __init__(
        self,
        *,
        seed: int | str,
        heldout: bool,
        level_weights: dict[int, float],
        kinds: Sequence[str] | None = None,
    ) -> None:
        known = all_kinds()
        unknown = sorted(set(kinds or ()) - set(known))
        if unknown:
            raise DataError(f"unknown kind of problem {', '.join(unknown)}. Known: {', '.join(known)}.")
        chosen = [known[name] for name in (kinds or known)]
        chosen = [kind for kind in chosen if level_weights.get(kind.level, 0) > 0]
        if not chosen:
            raise DataError(f"no kind of problem has one of the levels {sorted(level_weights)}.")
        total = {
            level: sum(kind.weight for kind in chosen if kind.level == level)
            for level in {kind.level for kind in chosen}
        }
        self.kinds = chosen
        self.weights = [level_weights[kind.level] * kind.weight / total[kind.level] for kind in chosen]
        self.heldout = heldout
        self.rng = Random(f"problems-{seed}-{heldout}")

    def draw(self, *, language: str | None = None, kind: Kind | None = None) -> Problem:
        """The next problem, in English or Chinese with equal chance unless a language is given."""
        kind = kind or self.rng.choices(self.kinds, self.weights)[0]
        language = language or self.rng.choice(LANGUAGES)
        while True:
            operands = kind.draw(self.rng)
            if is_heldout(kind, operands) == self.heldout:
                return put_into_words(kind, operands, language, self.rng)


def read_answer(response: str, language: str) -> str:
    """The answer in a response: what follows the last mark, else the whole, without final punctuation."""
    marked = response.rsplit(ANSWER_MARK[language].strip(), 1)[-1]
    return re.sub(r"[.。\s]+$", "", marked).strip()
