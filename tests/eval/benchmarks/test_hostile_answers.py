"""What judges answers reads any text in time that grows with its length, and never raises."""

import time

import pytest

from data_recipes.answers.final import final_answer
from data_recipes.answers.plain import equal_where_plain
from eval.benchmarks.programs import code_block
from eval.benchmarks.tasks.gsm8k.answers import final_number
from eval.benchmarks.tasks.gsm8k.pal import code_of
from eval.benchmarks.tasks.mmlu_cot.letters import final_letter
from eval.benchmarks.tasks.quac.questions import f1

READERS = {
    "number": final_number,
    "tex": final_answer,
    "plain": lambda text: equal_where_plain(text, text + "1"),
    "letter": lambda text: final_letter(text, ["one", "two", "three", "four"]),
    "program": code_of,
    "block": lambda text: code_block(text, "solve"),
    "words": lambda text: f1(text, "a b c"),
}
UNITS = [
    "9",
    "1,",
    "1,111",
    "1/",
    "1 / ",
    "-",
    "$",
    "\\boxed{",
    "{",
    "}",
    "answer is ",
    "answer: (",
    "(A) ",
    "```\n",
    "```",
]
UNITS += [
    "\n",
    " ",
    "Question:",
    "\nQ:",
    "\\frac{1}{",
    ".",
    "0.",
    "\0",
    "def solve(",
    "\u0663",
    "\ud800",
    "#### ",
    "=",
    "A",
]


@pytest.mark.parametrize("reader", READERS)
def test_any_text_is_read_in_time(reader):
    for unit in UNITS:
        begun = time.process_time()
        READERS[reader]((unit * (20_000 // len(unit)))[:20_000])
        assert time.process_time() - begun < 2, unit
