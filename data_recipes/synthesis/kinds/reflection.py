"""Error reflection: a wrong solution, cut at its first wrong step, what is wrong there, and the way on to the answer.

As the report's makers describe it: the model (Qwen2.5-Math-7B-Instruct) finds the first wrong step of a wrong answer,
which is cut there; then it writes an analysis of the error with a transition, then the correct continuation. Prompts
and sampling are ours. Only the first question shows the right answer: what goes on from the error is verified by it.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from data_recipes.answers.final import final_answer
from data_recipes.answers.judge import same_answer
from data_recipes.endpoint.request import Answer
from data_recipes.synthesis.kinds.answer_text import check_length, check_script, whole_text
from data_recipes.synthesis.kinds.base import AskModel, Checks, Kind, Rejected, Sample, Unusable
from data_recipes.synthesis.kinds.form import Form
from data_recipes.synthesis.kinds.seeds import gold_answer, whole_seed_text
from data_recipes.synthesis.kinds.worked_answers import solution_and_answer
from data_recipes.synthesis.prompts import instruction_lines, prompt

FIND, ANALYSE = Form(["Reason", "Step"]), Form(["Analysis", "Transition"])
MOST_STEPS = 60
_STEP_NUMBER = re.compile(r"\W*(?:step|步骤|第)?\s*(\d{1,3})\s*(?:步)?\W*", re.IGNORECASE)
_REFERENCE = re.compile(
    r"\b(?:reference|given|provided|correct|expected) (?:answer|solution) (?:is|says|shows|gives)"
    r"|标准答案|参考答案|正确答案是",
    re.IGNORECASE,
)


class Reflection(Kind):
    name = "reflection"
    summary = "a wrong solution up to its first wrong step, what is wrong, and the way on to the right answer"
    columns = ("question", "answer", "response")
    fields = (
        *("problem", "steps", "wrong_step", "analysis", "transition", "continuation"),
        *("solution", "answer", "gold", "wrong_solution"),
    )
    settings: ClassVar = {"temperature": 0.3, "top_p": 0.95, "max_tokens": 2048}
    template = "problem-solution"
    text_fields = ("problem", "solution")
    questions = 3

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        question, wrong = whole_seed_text(seed, "question"), whole_seed_text(seed, "response")
        gold = gold_answer(seed)
        if not gold:
            raise Unusable("no answer")
        if await asyncio.to_thread(same_answer, gold, final_answer(wrong)):
            raise Unusable("the response is right")
        bounds = step_bounds(wrong)
        if not 2 <= len(bounds) <= MOST_STEPS:
            raise Unusable("response without steps" if len(bounds) < 2 else "response with too many steps")

        numbered = "\n\n".join(f"Step {number}: {wrong[slice(*span)]}" for number, span in enumerate(bounds, 1))
        asked = prompt("reflection/find", question=question, answer=gold, steps=numbered)
        found = FIND.parse(self.whole(await ask(asked)))
        index = wrong_step(found["step"], len(bounds))
        # Up to the end of the first wrong step, word for word.
        steps = wrong[: bounds[index - 1][1]]

        asked = prompt("reflection/analyse", question=question, steps=steps, reason=found["reason"])
        parts = ANALYSE.parse(self.whole(await ask(asked)))
        check_length("analysis", parts["analysis"], 8, 300)
        check_length("transition", parts["transition"], 2, 80)
        if any(_REFERENCE.search(part) for part in parts.values()):
            raise Rejected("speaks of a reference")

        asked = prompt("reflection/continue", question=question, steps=steps, **parts)
        answer = await ask(asked)
        continuation, boxed = solution_and_answer(self.whole(answer))
        check_length("continuation", continuation, 5, 1500)
        if _REFERENCE.search(continuation):
            raise Rejected("speaks of a reference")
        if continuation.startswith(steps[:200]):
            raise Rejected("steps repeated")
        check_script(question, f"{parts['analysis']}\n{continuation}")
        fields = {
            "problem": question,
            "steps": steps,
            "wrong_step": str(index),
            **parts,
            "continuation": continuation,
            "solution": joined(steps, parts, continuation),
            "answer": boxed,
            "gold": gold,
            "wrong_solution": wrong,
        }
        return Sample(asked, answer.text, answer.finish_reason, fields)

    def whole(self, answer: Answer) -> str:
        return whole_text(answer, instruction_lines(self.name))

    def verify(self, sample: Sample, checks: Checks) -> Sample:
        fields = sample.fields
        bounds = step_bounds(fields["wrong_solution"])
        kept = fields["wrong_solution"][: bounds[wrong_step(fields["wrong_step"], len(bounds)) - 1][1]]
        if fields["steps"] != kept or not fields["solution"].startswith(kept):
            raise Rejected("steps changed")
        if not checks.same_answer(fields["gold"], fields["answer"]):
            raise Rejected("wrong answer")
        return sample


def step_bounds(solution: str) -> list[tuple[int, int]]:
    """Where each step stands: paragraphs, or lines where there is one paragraph only; display formulas stay whole."""
    for separator in (r"\n[ \t]*\n\s*", r"\n\s*"):
        bounds, start = [], 0
        for gap in re.finditer(separator, solution):
            if not _is_open(solution[start : gap.start()]):
                bounds.append((start, gap.start()))
                start = gap.end()
        bounds.append((start, len(solution)))
        if len(bounds) > 1:
            return bounds
    return bounds


def _is_open(step: str) -> bool:
    """Whether a formula or an environment that begins in a step goes on after it."""
    opened = step.count("\\begin{") + step.count("\\[")
    return opened > step.count("\\end{") + step.count("\\]") or step.count("$$") % 2 == 1


def wrong_step(said: str, steps: int) -> int:
    """The step's number, from 1; `Rejected` where none of the steps is named."""
    number = _STEP_NUMBER.fullmatch(said)
    if number is None:
        raise Rejected("no number of a step")
    if int(number[1]) == 0:
        raise Rejected("no wrong step found")
    if int(number[1]) > steps:
        raise Rejected("step out of range")
    return int(number[1])


def joined(steps: str, parts: Mapping[str, str], continuation: str) -> str:
    """The whole text: the steps, then the turn, then the way on."""
    texts: Sequence[str] = (steps, parts["analysis"], parts["transition"], continuation)
    return "\n\n".join(texts)
