"""Generated problems as text to pretrain on (worked problems, questions and answers) and as dialogues for SFT."""

from collections.abc import Iterator
from random import Random
from typing import Any

from data_recipes.synthesis.programs.draw import ProblemSource, all_kinds
from data_recipes.synthesis.programs.problem import ANSWER_MARK, LANGUAGES, Problem, ProblemKind

# Shares of the levels; ours. Level 1 leads in dialogues because a miniature must be able to learn it.
MATH_LEVELS = {1: 0.25, 2: 0.35, 3: 0.4}
INSTRUCTION_LEVELS = {1: 0.75, 2: 0.18, 3: 0.07}
DIALOGUE_LEVELS = {1: 0.8, 2: 0.15, 3: 0.05}
NON_MATH_KINDS = ("first-item", "last-item", "repeat", "reverse", "count")

# The plain forms of a question and its answer; the base model is scored in the first of each language.
QUESTION_ANSWER = {
    "en": ("Question: {question}\nAnswer:\n{answer}", "Q: {question}\nA:\n{answer}", "{question}\n{answer}"),
    "zh": ("问：{question}\n答：\n{answer}", "问题：{question}\n回答：\n{answer}", "{question}\n{answer}"),
}
WORKED = {
    "en": ("Problem: {question}\nSolution:\n{response}", "Example. {question}\n{response}", "{question}\n{response}"),
    "zh": ("题目：{question}\n解：\n{response}", "例：{question}\n{response}", "{question}\n{response}"),
}
SYSTEM_PROMPTS = {
    "en": "You are YuLan-Mini, created by RUC AI Box. You are a helpful assistant.",
    "zh": "你是YuLan-Mini，由RUC AI Box开发。你是一个乐于助人的助手。",
}
SYSTEM_PROMPT_SHARE = 0.03
SEVERAL_TURNS_SHARE = 0.1


def worked_text(problem: Problem, rng: Random) -> str:
    """One problem of a mathematics document, with steps and a marked answer."""
    response = "\n".join([*problem.steps, ANSWER_MARK[problem.language] + problem.answer])
    return rng.choice(WORKED[problem.language]).format(question=problem.question, response=response)


def answered_text(problem: Problem, form: str) -> str:
    """One question with its answer; steps come before the answer as in a dialogue."""
    return form.format(question=problem.question, answer=problem.response)


def math_documents(*, seed: int, heldout: bool) -> Iterator[tuple[str, str]]:
    """Endless (text, language): three to eight worked problems each, half of the documents of one kind."""
    kinds = [name for name in all_kinds() if name not in NON_MATH_KINDS]
    source = ProblemSource(seed=f"math-{seed}", heldout=heldout, level_weights=MATH_LEVELS, kinds=kinds)
    rng = Random(f"math-documents-{seed}-{heldout}")
    while True:
        language = rng.choice(LANGUAGES)
        kind: ProblemKind | None = rng.choices(source.kinds, source.weights)[0] if rng.random() < 0.5 else None
        problems = [source.draw(language=language, kind=kind) for _ in range(rng.randint(3, 8))]
        yield "\n\n".join(worked_text(problem, rng) for problem in problems), language


def instruction_documents(*, seed: int, heldout: bool) -> Iterator[tuple[str, str]]:
    """Endless (text, language): two to eight questions with answers, in one form a document."""
    source = ProblemSource(seed=f"instruction-{seed}", heldout=heldout, level_weights=INSTRUCTION_LEVELS)
    rng = Random(f"instruction-documents-{seed}-{heldout}")
    while True:
        language = rng.choice(LANGUAGES)
        form = rng.choices(QUESTION_ANSWER[language], (4, 1, 1))[0]
        problems = [source.draw(language=language) for _ in range(rng.randint(2, 8))]
        yield "\n\n".join(answered_text(problem, form) for problem in problems), language


def as_dialogue(problems: list[Problem], *, system: bool) -> dict[str, Any]:
    """A dialogue of one turn a problem; its kind, level and answer are those of the last one."""
    messages = []
    if system:
        messages.append({"role": "system", "content": SYSTEM_PROMPTS[problems[0].language]})
    for problem in problems:
        messages.append({"role": "user", "content": problem.question})
        messages.append({"role": "assistant", "content": problem.response})
    last = problems[-1]
    return {
        "messages": messages,
        "kind": last.kind,
        "level": last.level,
        "language": last.language,
        "answer": last.answer,
        "chance": last.chance,
    }


def training_dialogues(count: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """Dialogues to fine-tune on: mostly one turn, a tenth with two or three."""
    source = ProblemSource(seed=f"dialogues-{seed}", heldout=False, level_weights=DIALOGUE_LEVELS)
    rng = Random(f"dialogues-{seed}")
    for _ in range(count):
        language = rng.choice(LANGUAGES)
        turns = rng.choice((2, 3)) if rng.random() < SEVERAL_TURNS_SHARE else 1
        problems = [source.draw(language=language) for _ in range(turns)]
        yield as_dialogue(problems, system=rng.random() < SYSTEM_PROMPT_SHARE)


def heldout_dialogues(per_kind: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """Unseen problems to score: `per_kind` different ones of each kind, half English, half Chinese, one turn."""
    source = ProblemSource(seed=f"dialogues-{seed}", heldout=True, level_weights=dict.fromkeys(DIALOGUE_LEVELS, 1.0))
    for kind in source.kinds:
        questions: set[str] = set()
        for _ in range(50 * per_kind):
            if len(questions) == per_kind:
                break
            problem = source.draw(language=LANGUAGES[len(questions) % 2], kind=kind)
            if problem.question not in questions:
                questions.add(problem.question)
                yield as_dialogue([problem], system=False)
