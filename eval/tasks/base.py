"""What a task is, what it returns, and how it is found: a class with a `name`, in a module of this package.

The rows that a task returns are all that comparison, report, cards and command line read.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from eval.errors import EvalError
from eval.model_loading import LoadedModel
from train.config import Settings


@dataclass(frozen=True)
class TaskResult:
    """Rows (`score_row`); samples `{prompt, output, expected, correct, language}` to look at, `expected` None where
    there is no right answer; notes, sentences that the user should read beside the scores; `log`, every question with
    its answer, for a file of its own; and `details`, what is needed to repeat the task beside its settings."""

    rows: list[dict[str, Any]]
    samples: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def score_row(
    measure: str,
    group: str,
    value: float,
    *,
    better: Literal["lower", "higher"],
    count: int,
    chance: float | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """One score of `count` documents or questions; `chance` is what guessing would give.

    `value` is a share (0 to 1) of `count` where higher is better, else a number in the measure's own unit. `group`
    leads from a whole to its parts, as in "level 1 / addition / en"; the whole has rows of its own. What is in `extra`
    is optional; where it has a `protocol`, a phrase that describes how it was measured, that is shown with the scores.
    """
    row = {"measure": measure, "group": group, "value": value, "better": better, "count": count, "chance": chance}
    return row | extra


class Task(Settings):
    """Something that models are scored on. The fields are its settings, and these three are shared by all tasks:

    `prompt`: "chat" asks through the chat template (an instruct model), "question" in plain text (a base model).
    `start`: the token before a text: "eos" (as in pretraining here), "bos" or "none". `batch_size` in prompts.
    """

    name: ClassVar[str]
    prompt: Literal["question", "chat"] = "question"
    start: Literal["eos", "bos", "none"] = "eos"
    batch_size: int = Field(default=64, ge=1)

    def read(self, data: Path) -> Any:
        """What is scored, read from the data folder before a model is loaded; `EvalError` where it is not there."""
        raise NotImplementedError

    def plan(self, inputs: Any) -> Any:
        """What a dry run says of this task's inputs: how many there are."""
        return len(inputs)

    def check_model(self, loaded: Any) -> None:
        """`EvalError` for a model that this task cannot score; asked before any task of a suite begins."""
        if not isinstance(loaded, LoadedModel):
            raise EvalError(f"{self.name}: needs the model itself; an endpoint answers published benchmarks only.")

    def score(self, loaded: Any, inputs: Any, *, progress: bool = False) -> TaskResult:
        """The scores of a model on what `read` gave. The same model and inputs give the same scores."""
        raise NotImplementedError

    def start_tokens(self, tokenizer: Any) -> list[int]:
        """The token that stands before a text, as a list of one or none."""
        if self.start == "none":
            return []
        token = tokenizer.eos_token_id if self.start == "eos" else tokenizer.bos_token_id
        if token is None:
            raise EvalError(f"start '{self.start}': this tokenizer has no such token; use none.")
        return [token]
