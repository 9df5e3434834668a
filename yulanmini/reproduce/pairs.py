"""What the miniature's preference and on-policy stages learn from: its own answers to problems of the training data.

Of a problem that the model answers now right and now wrong, one answer of each is a pair of its own (on-policy). Where
it is always wrong, the computed answer is preferred to one of its wrong ones (off-policy). Which is right is decided as
in scoring. No held-out problem is read.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.files import write_whole
from data_recipes.instruct.pairs import PairPrompt, preference_pairs
from eval.generation import answers_to
from eval.model_loading import load_model
from eval.tasks.problems import MAX_NEW_TOKENS, judged
from yulanmini.errors import RunError
from yulanmini.run_layout import PAIRS_FILE, PROMPTS_FILE


@dataclass(frozen=True)
class Problem:
    """A problem of the training data: its line of the dialogues, and the model's answers with whether each is right."""

    record: Mapping[str, Any]
    answers: Sequence[str]
    right: Sequence[bool]

    @property
    def question(self) -> list[dict[str, str]]:
        return self.record["messages"][:1]

    @property
    def origin(self) -> dict[str, Any]:
        return {key: self.record[key] for key in ("kind", "level", "language")}


def write_pairs(
    dialogues: Path, model: Path, out: Path, *, per_kind: Mapping[int, int], samples: int, seed: int
) -> dict[str, Any]:
    """Write the pairs and the prompts of the on-policy stage into `out`; returns counts.

    `per_kind`: problems of each kind, by level; levels that are not named are left out. The prompts are those of which
    some of the `samples` answers are right and some wrong, hardest first: from answers that are all the same, nothing
    can be learned by comparing them. Where there is no such prompt they are those with none right.
    """
    problems = answered(model, training_problems(dialogues, per_kind), samples=samples, seed=seed)
    verdicts = {
        (problem.record["answer"], answer): right
        for problem in problems
        for answer, right in zip(problem.answers, problem.right, strict=True)
    }
    verdicts |= {(problem.record["answer"], computed(problem)): True for problem in problems}
    found = preference_pairs(
        map(pair_prompt, problems), is_right=lambda gold, answer: verdicts[gold, answer], seed=seed
    )
    if not found.pairs:
        raise RunError(f"{model}: no pair of a right and a wrong answer in {len(problems)} problems.")
    wrong = [problem for problem in problems if not all(problem.right)]
    prompts = sorted(filter(lambda problem: any(problem.right), wrong), key=lambda problem: sum(problem.right)) or wrong
    write_lines(out / PAIRS_FILE, (pair.line() for pair in found.pairs))
    write_lines(
        out / PROMPTS_FILE,
        (
            {
                "prompt": problem.question,
                "answer": problem.record["answer"],
                **problem.origin,
                "right": sum(problem.right),
            }
            for problem in prompts
        ),
    )
    answers = sum(len(problem.answers) for problem in problems)
    right = sum(sum(problem.right) for problem in problems)
    return {
        "problems": len(problems),
        "answers": answers,
        "right": right,
        "prompts": len(prompts),
        "pairs": len(found.pairs),
        "by_policy": found.counts,
    }


def training_problems(dialogues: Path, per_kind: Mapping[int, int]) -> list[dict[str, Any]]:
    """The first problems of each kind among the dialogues of one turn."""
    taken: Counter[str] = Counter()
    problems = []
    with dialogues.open(encoding="utf-8") as file:
        for record in map(json.loads, file):
            if len(record["messages"]) == 2 and taken[record["kind"]] < per_kind.get(record["level"], 0):
                taken[record["kind"]] += 1
                problems.append(record)
    return problems


def answered(model: Path, problems: Sequence[dict[str, Any]], *, samples: int, seed: int) -> list[Problem]:
    """The model's answers to each problem, drawn at temperature 1."""
    loaded = load_model(model)
    results = []
    for level in sorted({record["level"] for record in problems}):
        records = [record for record in problems if record["level"] == level]
        drawn = answers_to(
            loaded,
            [record["messages"][:1] for record in records],
            samples=samples,
            max_new_tokens=MAX_NEW_TOKENS[level],
            seed=seed,
            progress=True,
        )
        drawn = [[answer.strip() for answer in answers] for answers in drawn]
        for record, answers in zip(records, drawn, strict=True):
            results.append(Problem(record, answers, judged(answers, [record] * len(answers))))
    return results


def computed(problem: Problem) -> str:
    """The answer that the training data holds."""
    return problem.record["messages"][1]["content"]


def pair_prompt(problem: Problem) -> PairPrompt:
    """The problem as a prompt for a pair: with the model's answers alone where some are right."""
    own = any(problem.right)
    return PairPrompt(
        problem.question,
        problem.answers if own else [computed(problem), *problem.answers],
        "on-policy" if own else "off-policy",
        problem.record["answer"],
        problem.origin,
    )


def write_lines(path: Path, lines: Iterator[Mapping[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
