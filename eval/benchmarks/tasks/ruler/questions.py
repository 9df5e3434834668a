"""RULER's data sets, made when they are asked for: one function a kind, named in the task's YAML; and the score.

lm-eval hands over the settings of the YAML (`length` in tokens, `samples`, `seed`) and the model's tokenizer.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from eval.benchmarks.tasks.ruler.counts import coded_words, common_words
from eval.benchmarks.tasks.ruler.facts import document_question
from eval.benchmarks.tasks.ruler.needles import needle_question, variable_question
from eval.errors import EvalError

KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "niah_single_1": partial(needle_question, haystack="repeat"),
    "niah_single_2": partial(needle_question, haystack="prose"),
    "niah_single_3": partial(needle_question, haystack="prose", values="uuids"),
    "niah_multikey_1": partial(needle_question, haystack="prose", key_count=4),
    "niah_multikey_2": partial(needle_question, haystack="needles"),
    "niah_multikey_3": partial(needle_question, haystack="needles", keys="uuids", values="uuids"),
    "niah_multivalue": partial(needle_question, haystack="prose", value_count=4),
    "niah_multiquery": partial(needle_question, haystack="prose", query_count=4),
    "vt": variable_question,
    "cwe": common_words,
    "fwe": coded_words,
    "qa_1": partial(document_question, hops=1),
    "qa_2": partial(document_question, hops=2),
}


def make(
    *,
    kind: str,
    length: int,
    tokenizer: Any,
    samples: int = 100,
    seed: int = 42,
    depth: float | None = None,
    limit: int | None = None,
    **_: Any,
) -> dict[str, Any]:
    """`{"test": Dataset}` of `samples` questions of a kind, none longer than `length` tokens with its answer.

    `tokenizer`: the model's, or a name of one. `depth` in percent puts the needle there (one needle a question);
    by default each needle's depth is drawn. `limit`: make no more than so many, the same ones.
    """
    import datasets

    if kind not in KINDS:
        raise EvalError(f"RULER has no kind '{kind}'; it has {', '.join(KINDS)}.")
    if isinstance(tokenizer, str):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    settings = {} if depth is None else {"depths": [depth / 100]}
    rows = []
    for index in range(min(samples, limit or samples)):
        rng = random.Random(f"{seed} {kind} {length} {depth} {index}")
        rows.append(KINDS[kind](rng, tokenizer, length, **settings) | {"length": length})
    return {"test": datasets.Dataset.from_list(rows)}


def __getattr__(name: str) -> Any:
    """Each kind as a function of this module: a group of lm-eval gives its tasks one `dataset_kwargs`, not one each."""
    if name in KINDS:
        return partial(make, kind=name)
    raise AttributeError(name)


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The share of the expected strings that stand in the answer, as RULER's `string_match_all`."""
    answer = results[0].lower()
    return {"recall": sum(expected.lower() in answer for expected in doc["outputs"]) / len(doc["outputs"])}
