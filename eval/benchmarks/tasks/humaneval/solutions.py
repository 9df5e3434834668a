"""Makes programs of HumanEval answers: what continues the prompt, or a code block in a chat's answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.benchmarks.programs import Program, code_block, passed

SECONDS = 15.0  # the tests of HumanEval+ run hundreds of cases


def tests_of(doc: Mapping[str, Any]) -> str:
    return f"{doc['test']}\ncheck({doc['entry_point']})"


def continued(doc: Mapping[str, Any], answer: str) -> Program:
    """The prompt and what the model wrote after it."""
    return Program(doc["prompt"] + answer, tests_of(doc), SECONDS)


def chat(doc: Mapping[str, Any], answer: str) -> Program:
    """The function in the answer's code block, behind the prompt's imports and helpers; or a body that goes on."""
    code = code_block(answer, doc["entry_point"])
    if f"def {doc['entry_point']}" in code:
        return Program(f"{doc['prompt'].rstrip()}\n    pass\n\n{code}", tests_of(doc), SECONDS)
    return Program(doc["prompt"].rstrip() + "\n" + code, tests_of(doc), SECONDS)


def run(responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[bool]]:
    """Which answers passed. A filter of lm-eval."""
    return passed([[continued(doc, text) for text in texts] for texts, doc in zip(responses, docs, strict=True)])


def run_chat(responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[bool]]:
    return passed([[chat(doc, text) for text in texts] for texts, doc in zip(responses, docs, strict=True)])
