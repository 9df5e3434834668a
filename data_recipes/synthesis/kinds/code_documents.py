"""Competition-code documents: a problem with examples, and a solution with a program, after a text or another problem.

Sampling and form as math documents (one released script writes both). The report expanded LeetCode problems by
in-context learning; our prompt takes any text. The document's program is run on the document's examples, and what it
prints must be what they show.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from data_recipes.synthesis.kinds.answer_text import check_length, check_script, fenced_blocks, whole_text
from data_recipes.synthesis.kinds.base import AskModel, Checks, Kind, Rejected, Sample
from data_recipes.synthesis.kinds.form import Form
from data_recipes.synthesis.kinds.programs_run import ran
from data_recipes.synthesis.kinds.python_code import python_block
from data_recipes.synthesis.kinds.seeds import seed_text
from data_recipes.synthesis.prompts import instruction_lines, prompt

LEAST_EXAMPLES, MOST_EXAMPLES = 2, 10
_LABEL = re.compile(r"\W*(input|output|输入|输出)(?:\s*\d+)?\W*", re.IGNORECASE)


class CodeDocuments(Kind):
    name = "code-documents"
    summary = "a problem of a programming contest, with examples and a program that solves it, after a text"
    fields = ("problem", "examples", "solution", "code")
    settings: ClassVar = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 2048}
    template = "code-document"
    text_fields = ("problem", "solution")
    form = Form(["Problem", "Examples", "Solution"])

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        text = seed_text(seed, characters=6000)
        question = prompt(self.name, text=text)
        answer = await ask(question)
        fields = self.form.parse(whole_text(answer, instruction_lines(self.name)))
        check_length("problem", fields["problem"], 30, 800)
        check_length("solution", fields["solution"], 30, 1200)
        check_script(text, fields["problem"])
        fields["code"] = python_block("solution", fields["solution"])
        examples_of(fields["examples"])
        return Sample(question, answer.text, answer.finish_reason, fields)

    def verify(self, sample: Sample, checks: Checks) -> Sample:
        for given, expected in examples_of(sample.fields["examples"]):
            outcome = ran(sample, checks, sample.fields["code"], stdin=given + "\n")
            if not outcome.sample.checked:
                return outcome.sample
            if outcome.status != "passed":
                raise Rejected("program takes too long" if outcome.status == "timeout" else "program fails")
            if lines_of(outcome.stdout) != lines_of(expected):
                raise Rejected("program contradicts the examples")
        return sample


def examples_of(text: str) -> list[tuple[str, str]]:
    """Inputs and outputs of a document's examples: pairs of blocks, each after its label. `Rejected` in other forms."""
    found = fenced_blocks(text)
    labels = [_label(text[: block.start]) for block in found[: 2 * MOST_EXAMPLES + 1]]
    if len(found) % 2 or labels != ["input", "output", *labels][: len(labels)]:
        raise Rejected("examples in another form")
    contents = [block.content.rstrip("\n") for block in found]
    pairs = list(zip(contents[::2], contents[1::2], strict=True))
    if not LEAST_EXAMPLES <= len(pairs) <= MOST_EXAMPLES:
        raise Rejected("too few examples" if len(pairs) < LEAST_EXAMPLES else "too many examples")
    if len({given for given, _ in pairs}) < len(pairs):
        raise Rejected("an example twice")
    if len({tuple(lines_of(output)) for _, output in pairs}) == 1:
        raise Rejected("examples all have one output")  # any program that prints it would do
    return pairs


def _label(before: str) -> str:
    lines = before.rstrip().splitlines()
    label = _LABEL.fullmatch(lines[-1]) if lines else None
    return {"输入": "input", "输出": "output"}.get(label[1], label[1].lower()) if label else ""


def lines_of(output: str) -> list[tuple[str, ...]]:
    """An output as judges of contests read it: the words of each line, without empty lines at the end."""
    return [tuple(line.split()) for line in output.rstrip().splitlines()]
