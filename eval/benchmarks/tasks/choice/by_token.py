"""Multiple choice by the mean log-likelihood of an answer's tokens: how LLMBox, the authors' tool, compares answers.

lm-eval divides by characters (`acc_norm`) and does not tell a task how many tokens an answer has; our models do, as
`tokens` of each result (`eval/harness/questions.py`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Likelihoods = Sequence[Any]  # `eval.harness.questions.Likelihood`, one an answer


def scores(gold: int, answers: Sequence[str], results: Likelihoods) -> dict[str, float]:
    """1 or 0 by each measure: the answers' log-likelihoods as they are, by character, by token."""
    nats = np.array([result[0] for result in results])
    lengths = {"acc": 1.0, "acc_norm": np.array([len(answer) for answer in answers])}
    lengths["acc_per_token"] = np.array([result.tokens for result in results])
    return {measure: float(np.argmax(nats / length) == gold) for measure, length in lengths.items()}


def hellaswag(doc: dict[str, Any], results: Likelihoods) -> dict[str, float]:
    return scores(int(doc["label"]), doc["choices"], results)


def storycloze(doc: dict[str, Any], results: Likelihoods) -> dict[str, float]:
    answers = [doc["RandomFifthSentenceQuiz1"], doc["RandomFifthSentenceQuiz2"]]
    return scores(doc["AnswerRightEnding"] - 1, answers, results)


def mmlu(doc: dict[str, Any], results: Likelihoods) -> dict[str, float]:
    return scores(doc["answer"], doc["choices"], results)


def ceval(doc: dict[str, Any], results: Likelihoods) -> dict[str, float]:
    return scores("ABCD".index(doc["answer"]), [doc[letter] for letter in "ABCD"], results)


def cmmlu(doc: dict[str, Any], results: Likelihoods) -> dict[str, float]:
    return scores("ABCD".index(doc["Answer"]), [doc[letter] for letter in "ABCD"], results)
