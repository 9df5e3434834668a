"""Exact match on unseen generated problems, by level, kind and language, with the level of chance beside it.

A problem is put to an instruct model through its chat template, to a base model as a plain question in the
form that the generated documents have. The answer is what follows the last answer mark, or all of it.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import Field

from eval.corpus_folder import read_lines
from eval.demonstration import kind_group
from eval.errors import EvalError
from eval.generation import generate, tokens_cut
from eval.metrics import compute
from eval.model_loading import LoadedModel
from eval.scores import SEPARATOR
from eval.tasks.base import Task, TaskResult, score_row

# The first form of each language in data_recipes/synthesis/programs/documents.py (a test compares the two).
QUESTION_FORMS = {"en": "Question: {question}\nAnswer:\n", "zh": "问：{question}\n答：\n"}
ANSWER_MARKS = {"en": "Answer:", "zh": "答案："}
# Level 3 answers with worked steps; the longest is some 90 tokens at a vocabulary of 3,000.
MAX_NEW_TOKENS = {1: 16, 2: 32}
MAX_NEW_TOKENS_WORKED = 128
HARDER_AT_LEAST = 4
PROTOCOL = "greedy answers to generated problems that are in no training data"
SAMPLE_KEYS = ("prompt", "text", "output", "expected", "correct", "kind", "level", "language", "tokens_cut")


class Problems(Task):
    """`per_kind` takes that many problems of each kind of level 1, and a quarter as many (at least 4) of each harder
    one, whose long answers cost most of the time and tell a small model least; by default all."""

    name = "problems"
    per_kind: int | None = Field(default=None, ge=1)

    def read(self, data: Path) -> list[dict[str, Any]]:
        """The held-out problems in the order of the file."""
        path = data / "dialogues" / "heldout.jsonl"
        if not path.is_file():
            raise EvalError(f"{path}: no such file; unseen problems are part of a corpus folder.")
        taken: dict[str, int] = {}
        problems = []
        for record in read_lines(path, keys=("messages", "kind", "level", "language", "answer")):
            wanted = self.per_kind
            if wanted is not None and record["level"] > 1:
                wanted = min(wanted, max(HARDER_AT_LEAST, wanted // 4))
            taken[record["kind"]] = taken.get(record["kind"], 0) + 1
            if wanted is None or taken[record["kind"]] <= wanted:
                problems.append(record)
        if not problems:
            raise EvalError(f"{path}: holds no problems.")
        return problems

    def score(self, loaded: LoadedModel, inputs: list[dict[str, Any]], *, progress: bool = False) -> TaskResult:
        answers = self.answers(loaded, inputs, progress=progress)
        cut = sum(answer["tokens_cut"] > 0 for answer in answers)
        note = (
            f"{cut} of {len(answers)} questions are longer than the model's context leaves room for beside the answer; "
            "it was asked without their beginnings ('cut' in the rows counts them)."
        )
        return TaskResult(tally(answers), choose_samples(answers), [note] if cut else [])

    def answers(
        self, loaded: LoadedModel, problems: Sequence[dict[str, Any]], *, progress: bool = False
    ) -> list[dict[str, Any]]:
        """A record a problem: "prompt", "output", "expected", "correct", "kind", "level", "language", "chance"; the
        "text" that the model was given, special tokens included; and "tokens_cut" of the question, which did not fit
        into the model's context beside its answer."""
        prompts = [self.prompt_ids(loaded, problem) for problem in problems]
        # Where the context is shorter than a worked answer, half of it is left to the question.
        longest = MAX_NEW_TOKENS_WORKED if loaded.max_length > MAX_NEW_TOKENS_WORKED else loaded.max_length // 2
        limits = [min(MAX_NEW_TOKENS.get(problem["level"], longest), longest) for problem in problems]
        plain = self.prompt == "question"
        outputs = generate(
            loaded,
            prompts,
            max_new_tokens=limits,
            stop_at_empty_line=plain,
            batch_size=self.batch_size,
            progress=progress,
        )
        return [
            {
                "prompt": problem["messages"][-2]["content"],
                "text": loaded.tokenizer.decode(ids),
                "output": output.strip().split("\n\n")[0] if plain else output.strip(),
                "expected": problem["answer"],
                "correct": right,
                **{key: problem[key] for key in ("kind", "level", "language")},
                "chance": problem.get("chance"),
                "tokens_cut": tokens_cut(loaded, ids, limit),
            }
            for problem, output, right, ids, limit in zip(
                problems, outputs, judged(outputs, problems), prompts, limits, strict=True
            )
        ]

    def prompt_ids(self, loaded: LoadedModel, problem: dict[str, Any]) -> list[int]:
        """Token ids of a problem's question, up to where the answer begins."""
        question = [message for message in problem["messages"] if message["role"] != "assistant"]
        tokenizer = loaded.tokenizer
        if self.prompt == "chat":
            if not tokenizer.chat_template:
                raise EvalError("this tokenizer has no chat template; score a base model with the prompt 'question'.")
            return tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True)["input_ids"]
        text = QUESTION_FORMS[problem["language"]].format(question=question[-1]["content"])
        return [*self.start_tokens(tokenizer), *tokenizer(text, add_special_tokens=False)["input_ids"]]


def judged(outputs: Sequence[str], problems: Sequence[dict[str, Any]]) -> list[bool]:
    """Whether each response's answer is the computed one: the metric `answer_match`, with the mark of its language."""
    right = [False] * len(problems)
    for language, mark in ANSWER_MARKS.items():
        rows = [row for row, problem in enumerate(problems) if problem["language"] == language]
        if rows:
            answers = [problems[row]["answer"] for row in rows]
            found = compute(
                "answer_match", predictions=[outputs[row] for row in rows], references=answers, marks=[mark]
            )
            for row, match in zip(rows, found["matches"], strict=True):
                right[row] = match
    return right


def tally(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by level, then by level and kind, then also by language; easiest first.

    "cut" of the questions did not fit into the model's context whole. "chance" is the mean over the problems of the
    chance to be right when only the possible answers are known, None where it is not known of each.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for depth in (1, 2, 3):
        for answer in sorted(answers, key=lambda answer: (answer["level"], answer["kind"], answer["language"])):
            kind = kind_group(answer["level"], answer["kind"])
            names: tuple[str, ...] = (*kind.split(SEPARATOR), answer["language"])
            groups.setdefault(names[:depth], []).append(answer)
    rows = []
    for key, group in groups.items():
        correct = sum(answer["correct"] for answer in group)
        chances = [answer["chance"] for answer in group]
        row = score_row(
            "exact match",
            SEPARATOR.join(key),
            correct / len(group),
            better="higher",
            count=len(group),
            chance=None if None in chances else mean(chances),
            correct=correct,
            cut=sum(answer["tokens_cut"] > 0 for answer in group),
            protocol=PROTOCOL,
        )
        rows.append(row)
    return rows


def choose_samples(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first answer of each kind in each language, right or wrong, easiest kinds first; of a kind of which these are
    all wrong, the first right one too, so that what the model does best can be shown (`eval/demonstration.py`)."""
    first: dict[tuple[int, str, str], dict[str, Any]] = {}
    first_right: dict[tuple[int, str], dict[str, Any]] = {}
    for answer in answers:
        kind = answer["level"], answer["kind"]
        first.setdefault((*kind, answer["language"]), answer)
        if answer["correct"]:
            first_right.setdefault(kind, answer)
    for place, answer in first.items():
        if answer["correct"]:
            first_right.pop(place[:2], None)
    chosen = [*first.values(), *first_right.values()]
    chosen.sort(key=lambda answer: (answer["level"], answer["kind"], answer["language"]))
    return [{key: answer[key] for key in SAMPLE_KEYS} for answer in chosen]
