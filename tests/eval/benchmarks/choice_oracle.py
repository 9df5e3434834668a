"""What the tests know of each multiple-choice benchmark by themselves: from raw rows, without lm-eval's templates."""

import csv
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM

from eval.harness.questions import Likelihood

sys.path.insert(0, str(Path(__file__).parents[2] / "data"))

Row = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """Of a benchmark: its data set, the split that is scored; of a row the question, the answers and the right one."""

    repo: str
    split: str
    question: Callable[[Row], str]
    answers: Callable[[Row], list[str]]
    gold: Callable[[Row], int]
    config: str | None = None  # None: every configuration is scored
    letters: bool = False


def of_letters(letter: str) -> int:
    return "ABCDE".index(letter)


MMLU = ("cais/mmlu", "test", lambda row: row["question"], lambda row: row["choices"], lambda row: row["answer"])
CEVAL = (
    "ceval/ceval-exam",
    "val",
    lambda row: row["question"],
    lambda row: [row[letter] for letter in "ABCD"],
    lambda row: of_letters(row["answer"]),
)
CMMLU = (
    "haonan-li/cmmlu",
    "test",
    lambda row: row["Question"],
    lambda row: [row[letter] for letter in "ABCD"],
    lambda row: of_letters(row["Answer"]),
)
ARC = (
    "allenai/ai2_arc",
    "test",
    lambda row: row["question"],
    lambda row: row["choices"]["text"],
    lambda row: row["choices"]["label"].index(row["answerKey"]),
)
RACE = (
    "ehovy/race",
    "validation",
    lambda row: row["question"],
    lambda row: row["options"],
    lambda row: of_letters(row["answer"]),
)
BOOLQ = (
    "aps/super_glue",
    "validation",
    lambda row: row["question"],
    lambda row: ["no", "yes"],
    lambda row: row["label"],
    "boolq",
)
GPQA_ANSWERS = ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]

KNOWN = {
    "mmlu-letter": Known(*MMLU, letters=True),
    "mmlu-text": Known(*MMLU),
    "ceval-letter": Known(*CEVAL, letters=True),
    "ceval-text": Known(*CEVAL),
    "cmmlu-letter": Known(*CMMLU, letters=True),
    "cmmlu-text": Known(*CMMLU),
    "arc-easy": Known(*ARC, "ARC-Easy"),
    "arc-easy-letter": Known(*ARC, "ARC-Easy", letters=True),
    "arc-challenge": Known(*ARC, "ARC-Challenge"),
    "arc-challenge-letter": Known(*ARC, "ARC-Challenge", letters=True),
    "race-middle": Known(*RACE, "middle"),
    "race-high": Known(*RACE, "high"),
    "boolq-text": Known(*BOOLQ),
    "boolq-letter": Known(*BOOLQ, letters=True),
    "hellaswag": Known(
        "Rowan/hellaswag",
        "validation",
        lambda row: row["ctx_a"],
        lambda row: [ending.removeprefix("[step] ") for ending in row["endings"]],
        lambda row: int(row["label"]),
    ),
    "winogrande": Known(
        "allenai/winogrande",
        "validation",
        lambda row: row["sentence"].partition("_")[0],
        lambda row: [row["option1"], row["option2"]],
        lambda row: int(row["answer"]) - 1,
    ),
    "storycloze": Known(
        "LSDSem/story_cloze",
        "test",
        lambda row: row["InputSentence1"],
        lambda row: [row["RandomFifthSentenceQuiz1"], row["RandomFifthSentenceQuiz2"]],
        lambda row: int(row["AnswerRightEnding"]) - 1,
    ),
    "truthfulqa-mc1": Known(
        "truthfulqa/truthful_qa",
        "validation",
        lambda row: row["question"],
        lambda row: row["mc1_targets"]["choices"],
        lambda row: row["mc1_targets"]["labels"].index(1),
    ),
    "gpqa": Known(
        "Idavidrein/gpqa",
        "train",
        lambda row: row["Question"],
        lambda row: [row[name].strip() for name in GPQA_ANSWERS],
        lambda row: 0,
        letters=True,
    ),
}


def write_data(folder: Path, repo: str, items: int) -> dict[str, dict[str, list[Row]]]:
    """Made-up data of that many questions (a subject); its rows by configuration and split."""
    import items_choice
    import make_benchmarks

    if repo in items_choice.FILES:
        (folder / repo).mkdir(parents=True)
        for name, text in items_choice.storycloze(items).items():
            (folder / repo / name).write_text(text)
        (test,) = (folder / repo).glob("*_test.csv")
        return {"default": {"test": list(csv.DictReader(test.read_text().splitlines()))}}
    configs = items_choice.MAKERS[repo](items)
    make_benchmarks.write_data_set(folder, repo, configs)
    return configs


class FakeModel(LM):
    """Stands where lm-eval asks a model; a subclass says how likely a continuation is. It keeps all requests."""

    tokenizer, max_length, start_text = None, 1 << 20, ""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.unfinished, self.rows_used = {}, set(), [1]
        self.requests: list[Any] = []

    def likelihood(self, request: Any) -> tuple[float, bool]:
        raise NotImplementedError

    def loglikelihood(self, requests: list[Any], **_: Any) -> list[Likelihood]:
        """A token is a word, or a Chinese character."""
        self.requests += requests
        counts = [len(re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+", request.arguments[1])) for request in requests]
        return [Likelihood(self.likelihood(request), tokens=n) for request, n in zip(requests, counts, strict=True)]

    def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
        raise NotImplementedError


def drawn(*parts: str) -> float:
    """A number in [0, 1) that the text decides."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class RandomModel(FakeModel):
    def likelihood(self, request: Any) -> tuple[float, bool]:
        return -1 - 20 * drawn(*request.arguments), False


class PlantedModel(FakeModel):
    """Finds the right answer by the raw row in what it is shown, and picks it where `right(question)`, else another."""

    def __init__(self, known: Known, right: Callable[[str], bool]) -> None:
        super().__init__()
        self.known, self.right = known, right

    def likelihood(self, request: Any) -> tuple[float, bool]:
        context, continuation = request.arguments
        question = self.known.question(request.doc)
        if question.strip() not in context:  # of an empty question, all answers are equally likely by length
            return -5.0 * len(continuation), False
        answers, gold = self.known.answers(request.doc), self.known.gold(request.doc)
        pick = gold if self.right(question) else (gold + 1) % len(answers)
        return -(0.1 if self.offered(request, context, continuation, answers) == pick else 10.0) * len(
            continuation
        ), False

    def offered(self, request: Any, context: str, continuation: str, answers: list[str]) -> int:
        """Which of the raw row's answers this request is about."""
        if self.known.letters:
            asked = context[context.rindex(self.known.question(request.doc).strip()) :]
            letter = continuation.strip(" ()")
            (shown,) = re.findall(rf"^\(?{letter}[.)] (.*)$", asked, re.MULTILINE)
            return answers.index(shown)
        if self.known.repo == "allenai/winogrande":
            (index,) = [i for i, answer in enumerate(answers) if context.endswith(answer)]
            return index
        return answers.index(continuation.strip())


def scored_rows(known: Known, configs: dict[str, dict[str, list[Row]]]) -> Iterator[tuple[str, Row]]:
    """(configuration, row) of what a benchmark is to score."""
    for config, splits in configs.items():
        if known.config in (None, config):
            yield from ((config, row) for row in splits[known.split])
