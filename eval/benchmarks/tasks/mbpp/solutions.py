"""Makes programs of MBPP and MBPP+ answers, with the tests of the data set that the question is from."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eval.benchmarks.programs import Program, code_block, passed

PROMPT_TASKS = (2, 3, 4)
SECONDS = 15.0


def prompt_tasks(docs: Any) -> list[dict[str, Any]]:
    """The three worked examples of Austin et al. (2021), in order."""
    by_id = {doc["task_id"]: doc for doc in docs}
    return [by_id[task] for task in PROMPT_TASKS]


def tests_of(doc: Mapping[str, Any]) -> str:
    """MBPP+ has one long `test`; MBPP a list, which a set-up may precede."""
    if doc.get("test"):
        return "\n".join([*(doc.get("test_imports") or []), doc["test"]])
    return "\n".join([doc.get("test_setup_code") or "", *doc["test_list"]])


def called_function(doc: Mapping[str, Any]) -> str:
    """The function that the first test calls: of `assert set(f(1)) == ...` it is f."""
    wrappers = r"not|set|sorted|list|tuple|abs|round|math\.isclose"
    called = re.search(rf"\bassert\b[\s(]*(?:(?:{wrappers})[\s(]+)*(\w+)\s*\(", doc["test_list"][0])
    return called[1] if called else ""


def continued(doc: Mapping[str, Any], answer: str) -> Program:
    """What stands between [BEGIN] and [DONE]; a prompt ends in the first, the model may repeat it."""
    code = answer.split("[DONE]")[0].split("[BEGIN]")[-1].replace("\r", "")
    return Program(code, tests_of(doc), SECONDS)


def chat(doc: Mapping[str, Any], answer: str) -> Program:
    return Program(code_block(answer, called_function(doc)), tests_of(doc), SECONDS)


def run(responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[bool]]:
    """Which answers passed. A filter of lm-eval."""
    return passed([[continued(doc, text) for text in texts] for texts, doc in zip(responses, docs, strict=True)])


def run_chat(responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[bool]]:
    return passed([[chat(doc, text) for text in texts] for texts, doc in zip(responses, docs, strict=True)])
