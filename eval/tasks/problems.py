"""Exact match on unseen generated problems, by kind, level and language, with the level of chance beside it.

A problem is put to an instruct model through its chat template, to a base model as a plain question in the
form that the generated documents have. The answer is what follows the last answer mark, or all of it.
"""

import re
import unicodedata
from collections.abc import Sequence
from statistics import mean
from typing import Any

from eval.errors import EvalError
from eval.generation import generate_greedy, tokens_cut
from eval.model_loading import LoadedModel
from eval.tasks.heldout import start_tokens

PROMPTS = ("chat", "question")
# The first form of each language in data_recipes/synthesis/documents.py (a test compares the two).
QUESTION_FORMS = {"en": "Question: {question}\nAnswer:\n", "zh": "问：{question}\n答：\n"}
ANSWER_MARKS = {"en": "Answer:", "zh": "答案："}
# Level 3 answers with worked steps; the longest is some 90 tokens at a vocabulary of 3,000.
MAX_NEW_TOKENS = {1: 16, 2: 32}
MAX_NEW_TOKENS_WORKED = 128


def read_answer(output: str, language: str) -> str:
    """The answer in a response: after the last mark, on one line, without spaces and full stop around it."""
    paragraph = output.strip().split("\n\n")[0]
    marked = paragraph.rsplit(ANSWER_MARKS.get(language, ANSWER_MARKS["en"]), 1)
    text = marked[-1].strip() if len(marked) > 1 else paragraph
    text = unicodedata.normalize("NFKC", text.split("\n")[0] if len(marked) > 1 else text)
    return re.sub(r"\s+", " ", re.sub(r"[.。\s]+$", "", text)).strip()


def is_right(output: str, problem: dict[str, Any]) -> bool:
    """Whether a response's answer is exactly the computed one."""
    expected = unicodedata.normalize("NFKC", problem["answer"])
    return read_answer(output, problem["language"]) == expected


def prompt_ids(loaded: LoadedModel, problem: dict[str, Any], *, prompt: str, start: str) -> list[int]:
    """Token ids of a problem's question, up to where the answer begins."""
    question = [message for message in problem["messages"] if message["role"] != "assistant"]
    if prompt == "chat":
        if not loaded.tokenizer.chat_template:
            raise EvalError("this tokenizer has no chat template; score a base model with the prompt 'question'.")
        return loaded.tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True)["input_ids"]
    if prompt != "question":
        raise EvalError(f"prompt '{prompt}': expected {' or '.join(PROMPTS)}.")
    text = QUESTION_FORMS[problem["language"]].format(question=question[-1]["content"])
    return [*start_tokens(loaded.tokenizer, start), *loaded.tokenizer(text, add_special_tokens=False)["input_ids"]]


def answer_problems(
    loaded: LoadedModel,
    problems: Sequence[dict[str, Any]],
    *,
    prompt: str,
    start: str = "eos",
    batch_size: int = 64,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Each problem as {"prompt", "output", "expected", "correct", "kind", "level", "language", "chance", "tokens_cut"}.

    "tokens_cut" of a question did not fit into the model's context beside its answer; the model saw the rest.
    """
    prompts = [prompt_ids(loaded, problem, prompt=prompt, start=start) for problem in problems]
    limits = [MAX_NEW_TOKENS.get(problem["level"], MAX_NEW_TOKENS_WORKED) for problem in problems]
    outputs = generate_greedy(
        loaded,
        prompts,
        max_new_tokens=limits,
        stop_at_empty_line=prompt == "question",
        batch_size=batch_size,
        progress=progress,
    )
    return [
        {
            "prompt": problem["messages"][-2]["content"],
            "output": output.strip().split("\n\n")[0] if prompt == "question" else output.strip(),
            "expected": problem["answer"],
            "correct": is_right(output, problem),
            **{key: problem[key] for key in ("kind", "level", "language")},
            "chance": problem.get("chance"),
            "tokens_cut": tokens_cut(loaded, ids, limit),
        }
        for problem, output, ids, limit in zip(problems, outputs, prompts, limits, strict=True)
    ]


def tally(answers: Sequence[dict[str, Any]], *by: str) -> list[dict[str, Any]]:
    """Counts of right answers by some of "kind", "level", "language", in the order of first appearance.

    "cut" of the questions did not fit into the model's context whole. "chance" is the mean over the problems of the
    chance to be right when only the possible answers are known.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for answer in answers:
        groups.setdefault(tuple(answer[key] for key in by), []).append(answer)
    rows = []
    for key, group in groups.items():
        correct = sum(answer["correct"] for answer in group)
        chances = [answer["chance"] for answer in group if answer["chance"] is not None]
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "count": len(group),
                "correct": correct,
                "exact_match": correct / len(group),
                "cut": sum(answer["tokens_cut"] > 0 for answer in group),
                "chance": mean(chances) if chances else None,
            }
        )
    return rows
