"""GPQA and TruthfulQA come with the right answer at a fixed place: here it moves, by a hash of the question.

lm-eval's own tasks leave it first (TruthfulQA), where a model that cannot tell answers apart is always right, or
shuffle it anew each time that the documents are read (GPQA), so that a question can be, in another order, among its own
examples.
"""

import random
from typing import Any

import datasets
import numpy as np


def shuffled(question: str, items: list[Any]) -> list[Any]:
    """The items in an order that depends on the question alone."""
    return random.Random(question).sample(items, len(items))


def gpqa_docs(dataset: datasets.Dataset) -> datasets.Dataset:
    """Adds `options` (four texts) and `gold`, the index of the right one."""
    columns = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")

    def add_options(doc: dict[str, Any]) -> dict[str, Any]:
        order = shuffled(doc["Question"], list(range(4)))
        return {"options": [doc[columns[index]].strip() for index in order], "gold": order.index(0)}

    return dataset.map(add_options)


def truthfulqa_docs(dataset: datasets.Dataset) -> datasets.Dataset:
    """Puts the answers of `mc1_targets` and `mc2_targets` in another order, with their labels; `gold` is mc1's."""

    def move(doc: dict[str, Any]) -> dict[str, Any]:
        moved: dict[str, Any] = {}
        for key in ("mc1_targets", "mc2_targets"):
            pairs = shuffled(doc["question"], list(zip(doc[key]["choices"], doc[key]["labels"], strict=True)))
            moved[key] = {"choices": [text for text, _ in pairs], "labels": [label for _, label in pairs]}
        return moved | {"gold": moved["mc1_targets"]["labels"].index(1)}

    return dataset.map(move)


def true_share(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """TruthfulQA's mc2: the probability of the true answers among all of them, and what equal probabilities would give.

    lm-eval's own sums exp(log-likelihood), which is 0 / 0 where all answers are less likely than exp(-745).
    """
    scores = np.array([loglikelihood for loglikelihood, _ in results])
    weights = np.exp(scores - scores.max())
    true = np.array(doc["mc2_targets"]["labels"]) == 1
    return {"acc": float(weights[true].sum() / weights.sum()), "chance": float(true.mean())}
