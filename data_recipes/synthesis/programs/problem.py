"""Program-generated problems in English and Chinese whose answers are computed, never written down.

A kind of problem draws operands, solves them, and shows its work; `problem_forms.yaml` holds the ways of
asking. A problem's identity is its kind and operands, whatever the language or wording: `is_heldout` splits
on it, so no problem is both trained on and scored.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

import yaml

LANGUAGES = ("en", "zh")
HELDOUT_PERCENT = 10
ANSWER_MARK = {"en": "Answer: ", "zh": "答案："}


@cache
def load_words(name: str) -> Any:
    """A YAML file of this package: `problem_forms` or `lexicon`."""
    return yaml.safe_load((files("data_recipes.synthesis.programs") / f"{name}.yaml").read_text(encoding="utf-8"))


def words(group: str, language: str) -> list[str]:
    """The lexicon's words of a group, in the same order in each language."""
    column = LANGUAGES.index(language)
    return [pair[column] for pair in load_words("lexicon")[group]]


class ProblemKind(ABC):
    """One kind of problem. Operands are plain numbers (indices for words), the same in every language."""

    name: str
    level: int  # 1 is easiest
    weight: float = 1.0  # share among the kinds of its level

    @abstractmethod
    def draw(self, rng: Random) -> tuple[Any, ...]:
        """Operands of a new problem."""

    @abstractmethod
    def solve(self, operands: tuple[Any, ...]) -> Any:
        """The answer, computed directly."""

    @abstractmethod
    def fields(self, operands: tuple[Any, ...], language: str) -> dict[str, Any]:
        """Values for the placeholders in `problem_forms.yaml`."""

    def answer(self, operands: tuple[Any, ...], language: str) -> str:
        """The answer, written in a language."""
        return str(self.solve(operands))

    def work(self, operands: tuple[Any, ...], language: str) -> tuple[list[str], Any]:
        """Worked steps and their result, computed in another way than by `solve`; no steps for level 1."""
        return [], self.solve(operands)

    def identity(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """Problems with equal identities are the same problem and lie on the same side of the held-out split."""
        return (self.name, *operands)

    @abstractmethod
    def chance(self, operands: tuple[Any, ...]) -> float:
        """Probability of a right answer by guessing among the possible ones."""


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
        """The assistant's turn: the bare answer, or the steps and then the marked answer."""
        if not self.steps:
            return self.answer
        return "\n".join([*self.steps, ANSWER_MARK[self.language] + self.answer])


def is_heldout(kind: ProblemKind, operands: tuple[Any, ...]) -> bool:
    """Whether a problem belongs to the held-out side: a hash of its identity, independent of the seed."""
    digest = hashlib.sha256(repr(kind.identity(operands)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELDOUT_PERCENT


def put_into_words(kind: ProblemKind, operands: tuple[Any, ...], language: str, rng: Random) -> Problem:
    """Write the question, solve it and check: the worked steps must arrive at the solver's answer."""
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
