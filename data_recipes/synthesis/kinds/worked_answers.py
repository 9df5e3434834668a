"""Worked answers to given questions: math CoT, long CoT, science CoT, and math answers kept where they match.

Long CoT is asked for as the report's released script does: a system prompt to think step by step, the answer in
\\boxed{}, at most 16,000 tokens, temperature 0, stop at "Human:" (QwQ-32B-Preview). Its authors distilled science
problems with the same model. The instruct model's math answers were kept where they match the ground truth; how many
were drawn is not published. Prompts, the sampling of math-cot and matched-math, and limits of length are ours.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from data_recipes.answers.final import last_boxed, without_further_questions
from data_recipes.answers.judge import same_answer
from data_recipes.endpoint.request import Answer, NoAnswer
from data_recipes.errors import DataError
from data_recipes.synthesis.kinds.answer_text import check_length, check_script, whole_text
from data_recipes.synthesis.kinds.base import AskModel, Checks, Kind, Rejected, Sample, Unusable
from data_recipes.synthesis.kinds.seeds import gold_answer, seed_text
from data_recipes.synthesis.prompts import instruction_lines, prompt

LONG: Mapping[str, Any] = {"temperature": 0.0, "max_tokens": 16000, "stop": ["Human:"]}
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)
_REFLECTION = re.compile(
    r"\b(?:wait|hmm|hold on|let me (?:double[- ]?check|re-?check|re-?consider|re-?think|verify|check)|on second thought"
    r"|alternatively|i made (?:a|an) (?:mistake|error)|that(?:'s| is) not right"
    r"|let(?:'s| us) (?:verify|double[- ]?check))\b"
    r"|等等|等一下|不对|重新(?:检查|考虑|审视|计算)|再(?:检查|验算|想想)|验证一下|验算|反思",
    re.IGNORECASE,
)


class WorkedAnswer(Kind):
    """A question and a solution that ends in \\boxed{...}; where the seed has an `answer`, it is shown to be right."""

    columns: Sequence[str] = ("question",)
    optional_columns: Sequence[str] = ("answer",)
    fields: Sequence[str] = ("problem", "solution", "answer", "gold")
    template = "problem-solution"
    text_fields = ("problem", "solution")
    final_answer: str | None = "answer"
    words: ClassVar[tuple[int, int]] = (15, 2000)

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        question, gold = seed_text(seed, "question"), gold_answer(seed)
        asked = prompt(self.name, question=question)
        return self.parse(question, gold, asked, await ask(asked))

    def parse(self, question: str, gold: str | None, asked: str, answer: Answer) -> Sample:
        """The sample of an answer. `Rejected` and `NoAnswer` as `make`."""
        solution, boxed = solution_and_answer(whole_text(answer, instruction_lines(self.name)))
        check_length("solution", solution, *self.words)
        check_script(question, solution)
        fields = {"problem": question, "solution": solution, "answer": boxed}
        if gold:
            fields["gold"] = gold
        return Sample(asked, answer.text, answer.finish_reason, fields, checked=bool(gold))

    def verify(self, sample: Sample, checks: Checks) -> Sample:
        if "gold" in sample.fields and not checks.same_answer(sample.fields["gold"], sample.fields["answer"]):
            raise Rejected("wrong answer")
        return sample


class MathCot(WorkedAnswer):
    name = "math-cot"
    summary = "a question of mathematics answered step by step"
    settings: ClassVar = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 4096}


class LongCot(WorkedAnswer):
    name = "long-cot"
    summary = "a hard question thought through at length"
    settings: ClassVar = LONG
    options: ClassVar = {"reflection": False}
    words: ClassVar = (100, 16000)

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        question, gold = seed_text(seed, "question"), gold_answer(seed)
        asked = prompt("long-cot/user", question=question, **self.chosen)
        answer = await ask(asked, system=prompt("long-cot/system"))
        sample = self.parse(question, gold, asked, replace(answer, text=without_marks_of_thought(answer.text)))
        if self.chosen["reflection"] and not _REFLECTION.search(sample.fields["solution"]):
            raise Rejected("no reflection")
        return replace(sample, response=answer.text)


class ScienceCot(WorkedAnswer):
    name = "science-cot"
    summary = "a problem of physics, chemistry, biology, ... answered step by step, with units"
    settings: ClassVar = LONG
    words: ClassVar = (30, 16000)


class MatchedMath(WorkedAnswer):
    name = "matched-math"
    summary = "a question of mathematics, and the first of several answers that matches the given one"
    columns = ("question", "answer")
    optional_columns = ()
    fields = (*WorkedAnswer.fields, "draws")
    settings: ClassVar = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 4096}
    options: ClassVar = {"draws": 4}
    final_answer = None

    def __init__(self, **chosen: Any) -> None:
        super().__init__(**chosen)
        if self.chosen["draws"] < 1:
            raise DataError(f"matched-math: draws is {self.chosen['draws']}; expected at least 1.")
        self.questions = self.chosen["draws"]

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        question, gold = seed_text(seed, "question"), gold_answer(seed)
        if not gold:
            raise Unusable("no answer")
        asked = prompt(self.name, question=question)
        problem: Exception = Rejected("wrong answer")
        for draw in range(self.chosen["draws"]):
            try:
                sample = self.parse(question, gold, asked, await ask(asked, draw=draw))
            except (Rejected, NoAnswer) as error:
                problem = error
                continue
            # In a thread: the comparing process may take its seconds, and other seeds go on meanwhile.
            if await asyncio.to_thread(same_answer, gold, sample.fields["answer"]):
                return replace(sample, fields={**sample.fields, "draws": str(draw + 1)})
            problem = Rejected("wrong answer")
        raise problem


def solution_and_answer(text: str) -> tuple[str, str]:
    """A solution and what its last \\boxed{...} holds. `Rejected` without one, and where another question follows."""
    solution = without_further_questions(text).strip()
    if solution != text:
        raise Rejected("another question after the solution")
    boxed = last_boxed(solution)
    if boxed is None or not boxed[1].strip():
        raise Rejected("no answer in \\boxed{}")
    return solution, boxed[1].strip()


def without_marks_of_thought(text: str) -> str:
    """The text of a model that thinks aloud: its thoughts, then its answer, without the marks around the first."""
    thought = _THOUGHT.match(text)
    return f"{thought[1].strip()}\n\n{text[thought.end() :].strip()}" if thought else text
