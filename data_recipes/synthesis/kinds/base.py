"""What a kind of synthetic document is: seeds in, questions to a model, samples out, each with a verdict.

A kind is a subclass of `Kind` with a `name`, in a module of this folder; it is found by its place. Its prompts are
files of `data_recipes/synthesis/prompts/`, ours, with a version: a changed prompt is another request, so nothing old is
reused.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from data_recipes.endpoint.request import Answer
from data_recipes.errors import DataError, nearest

Verdict = Literal["accepted", "rejected", "failed"]
"""`failed`: there is no whole answer (a fault of the server, or no end); `rejected`: there is one, and it is bad."""


@dataclass(frozen=True)
class Sample:
    """What a seed has become.

    `prompt` is the last question asked, `response` the model's whole answer to it. `fields` are the parsed parts, which
    templates and filters name (`problem`, `solution`, `answer`, `tests`, ...); `reason` is a short phrase that reports
    count by (`no [Solution] part`, `wrong answer`), empty where the sample is accepted. `checked` is False where what
    the kind verifies could not be verified here, such as Lean without a `lean` binary.
    """

    prompt: str
    response: str
    finish_reason: str
    fields: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict = "accepted"
    reason: str = ""
    checked: bool = True
    votes: int = 1
    """How many draws gave this answer; set by the run, where it was asked to vote."""


class Unusable(Exception):
    """A seed from which nothing can be asked, in a short phrase: it gives a rejected sample without a request."""


class Rejected(Exception):
    """A parser's or a verifier's word for why a sample is bad, in a short phrase that reports count by."""


AskModel = Callable[..., Awaitable[Answer]]
"""`await ask(user, system=None, history=(), draw=0, **settings)`: a question to the run's model with the kind's
settings, changed by `settings`. Answers come from the cache where they are there, so
`make` may be run again at no cost."""


class Kind(ABC):
    """One kind of document. Made anew in each process; `make` runs for many seeds at once, in one thread."""

    name: str
    summary: str
    """A line for `--help` and the docs."""
    columns: Sequence[str] = ("text",)
    """Columns of a seed that are needed; `--column NAME=COLUMN` maps another's names to them."""
    optional_columns: Sequence[str] = ()
    """Columns that are used where they are there. No other columns are read."""
    fields: Sequence[str] = ()
    """Names of the parsed parts, each a column of the samples."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Sampling, as published where it is (facts in the kind's module)."""
    options: ClassVar[Mapping[str, Any]] = {}
    """What `--set` may change besides the sampling, with their defaults; a choice is of the default's type."""
    template: str
    """A template of `data_recipes/recipes/templates.yaml` that makes training text of an accepted sample."""
    text_fields: Sequence[str] = ()
    """The fields that duplicates are found by and quality is scored on, joined by blank lines."""
    final_answer: str | None = None
    """The field that holds a final answer, where all draws of a seed answer the same question: `--votes` counts it."""
    questions: int = 1
    """How many requests a seed takes, for the estimate of a dry run."""

    def __init__(self, **chosen: Any) -> None:
        """`chosen`: values for some of `options`. `DataError` for an unknown one, and for a value of another type."""
        for name, value in chosen.items():
            if name not in self.options:
                raise DataError(f"{self.name}: no option '{name}'.{nearest(name, self.options)}")
            if type(value) is not type(self.options[name]):
                expected = type(self.options[name]).__name__
                raise DataError(f"{self.name}: {name} is {value!r}; expected a value of type {expected}.")
        self.chosen: Mapping[str, Any] = {**self.options, **chosen}

    @abstractmethod
    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        """Ask and parse. Raises `Unusable` before a question, `Rejected` after an answer that cannot be parsed, and
        `NoAnswer`, which makes a failed sample, where there is none or none with an end."""

    def verify(self, sample: Sample, checks: "Checks") -> Sample:
        """Check what can be checked; runs in a process of its own, off the event loop. Raises `Rejected`."""
        return sample


@dataclass(frozen=True)
class Checks:
    """What verifiers may use; picklable, so a task in another process has the same.

    `same_answer(gold, answer)`: whether two mathematical answers are equal (math-verify, with limits of time and
    memory). `run_program(source, tests=...)`: `eval.code_runner.runner.run_program`, given by the front, as a room does
    not import from those above it. `lean`: the path of a `lean` binary, or None.
    """

    same_answer: Callable[[str, str], bool]
    run_program: Callable[..., Any]
    lean: str | None = None
