"""Science questions and answers taken from texts, as the instruct model's were (Wiki, Reddit, arXiv;
Qwen2.5-32B-Instruct).

The prompt and the sampling are ours. A text is asked once for a question, its answer, an explanation and the passage
that holds the answer; the passage must stand in the text word for word and hold what the answer says. Then the
question is asked again with the passage alone, and must get the same answer.
"""

import asyncio
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from data_recipes.answers.judge import same_answer
from data_recipes.synthesis.kinds.answer_text import check_length, check_script, content_words, whole_text
from data_recipes.synthesis.kinds.base import AskModel, Kind, Rejected, Sample
from data_recipes.synthesis.kinds.form import Form
from data_recipes.synthesis.kinds.seeds import seed_text
from data_recipes.synthesis.prompts import instruction_lines, prompt

LEAST_SUPPORTED = 0.6
"""Of an answer's words that carry content, in its passage; every number must be there."""
LEAST_AGREEMENT = 0.5
"""F1 of the words of the answer and of that to the question asked again."""


class ScienceQa(Kind):
    name = "science-qa"
    summary = "a question of science and its answer, both taken from a text"
    fields = ("question", "answer", "explanation", "support", "answer_again")
    settings: ClassVar = {"temperature": 0.3, "top_p": 0.95, "max_tokens": 1024}
    options: ClassVar = {"ask_again": True}
    template = "science-qa"
    text_fields = ("question", "explanation", "answer")
    form = Form(["Question", "Answer", "Explanation", "Support"])
    questions = 2

    async def make(self, seed: Mapping[str, Any], ask: AskModel) -> Sample:
        text = seed_text(seed)
        question = prompt("science-qa/extract", text=text)
        answer = await ask(question)
        said = whole_text(answer, instruction_lines(self.name))
        if said.strip(" .`*").upper() == "NONE":
            raise Rejected("no question in the text")
        fields = self.form.parse(said)
        check_extract(fields, text)
        if self.chosen["ask_again"]:
            question = prompt("science-qa/again", question=fields["question"], passage=fields["support"])
            answer = await ask(question)
            fields["answer_again"] = whole_text(answer, instruction_lines(self.name))
            await check_agreement(fields["answer"], fields["answer_again"])
        return Sample(question, answer.text, answer.finish_reason, fields, checked=self.chosen["ask_again"])


def check_extract(fields: Mapping[str, str], text: str) -> None:
    """`Rejected` where a question stands not by itself, or its answer is not in the text."""
    check_length("question", fields["question"], 4, 120)
    check_length("answer", fields["answer"], 1, 60)
    check_length("explanation", fields["explanation"], 5, 200)
    check_length("support", fields["support"], 4, 200)
    check_script(text, fields["explanation"])
    if re.search(
        r"\b(?:the|this) (?:text|passage|article|author|excerpt|document)\b|(?:本文|文中|上文|这段|该文)",
        fields["question"] + "\n" + fields["explanation"],
        re.IGNORECASE,
    ):
        raise Rejected("speaks of the text")
    if plain(fields["answer"]) in plain(fields["question"]):
        raise Rejected("answer in the question")
    if plain(fields["support"]) not in plain(text):
        raise Rejected("support not in the text")
    words, held = content_words(fields["answer"]), set(content_words(fields["support"]))
    if any(word not in held for word in words if any(map(str.isdigit, word))):
        raise Rejected("a number of the answer is not in its support")
    if words and sum(word in held for word in words) < LEAST_SUPPORTED * len(words):
        raise Rejected("answer not in its support")


async def check_agreement(answer: str, again: str) -> None:
    """`Rejected` where a question asked again, with its passage alone, gets another answer."""
    if again.strip(" .`*").upper() == "NONE":
        raise Rejected("support does not answer the question")
    first, second = Counter(content_words(answer)), Counter(content_words(again))
    shared = (first & second).total()
    if shared and 2 * shared >= LEAST_AGREEMENT * (first.total() + second.total()):
        digits = [{word for word in words if any(map(str.isdigit, word))} for words in (first, second)]
        if digits[0] <= digits[1] or not digits[0]:
            return
    # In a thread, as the comparing process may take its seconds.
    if not await asyncio.to_thread(same_answer, answer, again):
        raise Rejected("another answer when asked again")


def plain(text: str) -> str:
    """A text as a reader sees it: one space between words, quotes and dashes of one kind, in lower case."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.translate(str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u2212", "''\"\"---"))
    return " ".join(text.strip(" \n\"'.").split())
