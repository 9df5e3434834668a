"""Grades of a judge model on three criteria, as in the report: instruction following, informativeness, truthfulness.

The published run asked Qwen2.5-32B-Instruct; its prompt is not public, ours is `prompts/judge.md`. An answer is on the
disk before it is looked at, so neither a kill nor a changed threshold asks anything twice.
"""

import json
import multiprocessing
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from data_recipes.cleaning.steps.base import Batch, Step, StepSettings, Threshold
from data_recipes.endpoint.client import Endpoint, in_order
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import Request
from data_recipes.errors import DataError
from data_recipes.instruct.messages import Message
from data_recipes.manifest import fingerprint_of

CRITERIA = ("instruction_following", "informativeness", "truthfulness")
PROMPT = Path(__file__).parents[1] / "prompts" / "judge.md"
NOT_GRADED = "no grades in the judge's answers"
END = "[END CONVERSATION]"
_OBJECT = re.compile(r"\{[^{}]*\}")
Grades = dict[str, int]


class JudgeSettings(StepSettings):
    """`model`: its name on the server at `endpoint`. `at_least`: of the mean of the three grades; with the step
    `drop-share` on `judge_mean` a share goes instead. `ungraded`: what becomes of a dialogue whose judge gave no grades
    in `attempts` answers. `max_characters`: of a longer conversation the middle is left out."""

    model: str = Field(min_length=1)
    max_characters: int = Field(24_000, ge=100)
    max_tokens: int = Field(128, ge=1)
    attempts: int = Field(3, ge=1)
    # Where the server is, and how it is asked: no answer depends on it.
    endpoint: str | None = None
    concurrency: int = Field(64, ge=1)
    timeout: float = Field(600.0, gt=0)
    patience: float = Field(300.0, ge=0)
    at_least: Annotated[float | None, Threshold()] = Field(None, ge=1, le=5)
    ungraded: Annotated[Literal["drop", "keep"], Threshold()] = "drop"

    def signal_settings(self) -> dict[str, Any]:
        how = ("endpoint", "concurrency", "timeout", "patience")
        return {key: value for key, value in super().signal_settings().items() if key not in how}


class Judge(Step[JudgeSettings]):
    """Columns `instruction_following`, `informativeness`, `truthfulness` (1 to 5), `judge_mean`, and `judge_note`: why
    there are no grades."""

    name = "judge"
    Settings = JudgeSettings
    costly = True
    reads = ("messages",)
    _kept: KeptAnswers | None = None

    def inputs(self) -> dict[str, str]:
        return {"prompt": fingerprint_of(PROMPT.read_text(encoding="utf-8"))}

    def schema(self) -> pa.Schema:
        grades = [(name, pa.int8()) for name in CRITERIA]
        return pa.schema([*grades, ("judge_mean", pa.float32()), ("judge_note", pa.string())])

    @contextmanager
    def keeping(self, file: Path) -> Iterator[None]:
        file.parent.mkdir(parents=True, exist_ok=True)
        with KeptAnswers(file) as self._kept:
            yield
        self._kept = None

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        settings = self.settings
        if settings.endpoint is None:
            raise DataError("step 'judge': no server to ask. Give --endpoint URL, or `endpoint` in the config.")
        prompt = PROMPT.read_text(encoding="utf-8")
        questions = [
            prompt.replace("{conversation}", conversation_of(messages or [], settings.max_characters))
            for messages in batch.columns["messages"]
        ]
        options = {"concurrency": settings.concurrency, "timeout": settings.timeout, "patience": settings.patience}
        answers = in_order(settings.endpoint, questions, self._asking, **options)
        # Of one task alone: bars of several would write over each other.
        quiet = True if multiprocessing.parent_process() is not None else None
        found = list(tqdm(answers, desc="judging", unit="dialogue", total=len(questions), leave=False, disable=quiet))
        rows = [grades if isinstance(grades, dict) else None for grades in found]
        notes = [None if isinstance(one, dict) else NOT_GRADED if one is None else "no answer" for one in found]
        columns: dict[str, Sequence[Any]] = {name: [row and row[name] for row in rows] for name in CRITERIA}
        columns["judge_mean"] = [row and sum(row.values()) / len(row) for row in rows]
        return {**columns, "judge_note": notes}

    def _asking(self, endpoint: Endpoint) -> Callable[[str], Awaitable[Grades | None]]:
        """Grades of one question; None where no answer of the attempts has any."""
        ask = endpoint.ask if self._kept is None else self._kept.wrap(endpoint.ask)
        settings = self.settings

        async def grade(question: str) -> Grades | None:
            for attempt in range(settings.attempts):
                # The first is the likeliest answer; the same again would be no other.
                sampling = {"temperature": 0.0 if attempt == 0 else 0.7, "max_tokens": settings.max_tokens}
                message = {"role": "user", "content": question}
                answer = await ask(Request(settings.model, (message,), sampling, draw=attempt))
                if (grades := grades_in(answer.text)) is not None:
                    return grades
            return None

        return grade

    def reasons(self, source: str, signals: pa.Table) -> list[str | None]:
        settings = self.settings
        low = f"judged below {settings.at_least:g}" if settings.at_least is not None else None
        found: list[str | None] = []
        for mean, note in zip(signals["judge_mean"].to_pylist(), signals["judge_note"].to_pylist(), strict=True):
            if mean is None:
                found.append(note if settings.ungraded == "drop" else None)
            else:
                found.append(low if settings.at_least is not None and mean < settings.at_least - 1e-6 else None)
        return found

    def limits(self) -> dict[str, list[float]]:
        return {} if self.settings.at_least is None else {"judge_mean": [self.settings.at_least]}


def conversation_of(messages: Sequence[Message], most: int) -> str:
    """The turns with their speakers; of more than `most` characters the middle is left out."""
    text = "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)
    text = text.replace(END, END.lower())  # the prompt's own mark is the only one
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n\n[... {len(text) - 2 * half:,} characters left out ...]\n\n{text[-half:]}"


def grades_in(text: str) -> Grades | None:
    """The grades of an answer: one JSON object in it, with the three criteria and nothing else, whole numbers from 1 to
    5. Anything less is no grade: a guess would be kept as if the judge had given it."""
    found = _OBJECT.findall(text)
    if len(found) != 1:
        return None
    try:
        grades = json.loads(found[0])
    except ValueError:
        return None
    is_whole = all(type(value) is int and 1 <= value <= 5 for value in grades.values())
    return {name: grades[name] for name in CRITERIA} if grades.keys() == set(CRITERIA) and is_whole else None
