"""Math documents: a problem and its worked solution, after a text that suggests them.

As the report's released script asks: `[Problem]` and `[Solution]` of about 250 to 350 words with LaTeX, then `<END>`;
Qwen2.5-7B-Instruct at temperature 0.7 and top_p 1.0, at most 2,048 tokens. The prompt's words are ours, as are the
limits of length: a solution may be a third as long as asked, and twice.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from data_recipes.synthesis.kinds.answer_text import check_length, check_script, whole_text
from data_recipes.synthesis.kinds.base import AskModel, Kind, Rejected, Sample
from data_recipes.synthesis.kinds.form import Form
from data_recipes.synthesis.kinds.seeds import seed_text
from data_recipes.synthesis.prompts import instruction_lines, prompt


class MathDocuments(Kind):
    name = "math-documents"
    summary = "a problem in mathematics and its solution, after a text"
    fields = ("problem", "solution")
    settings: ClassVar = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 2048}
    template = "problem-solution"
    text_fields = ("problem", "solution")
    form = Form(["Problem", "Solution"])

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        text = seed_text(seed)
        question = prompt(self.name, text=text)
        answer = await ask(question)
        fields = self.form.parse(whole_text(answer, instruction_lines(self.name)))
        check_length("problem", fields["problem"], 8, 400)
        check_length("solution", fields["solution"], 80, 700)
        check_script(text, fields["solution"])
        if " ".join(fields["solution"].split()) in " ".join(text.split()):
            raise Rejected("solution copied from the seed")
        return Sample(question, answer.text, answer.finish_reason, fields)
