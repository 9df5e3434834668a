"""Questions taken from texts: the answer stands in the text, and is found again in the passage that holds it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_answers import verdict

from data_recipes.synthesis.kinds.science_qa import ScienceQa

PASSAGE = "At normal pressure pure water boils at 100 °C, since its vapour then has the pressure of the air above it."
SEED = {"text": f"Heat makes liquids boil.\n{PASSAGE}\nOn high mountains it boils at 70 °C."}


def written(
    question: str = "At which temperature does pure water boil at normal pressure?",
    answer: str = "100 °C",
    explanation: str = "At this temperature the pressure of the vapour equals that of the air.",
    support: str = PASSAGE,
) -> str:
    return (
        f"[Question]\n{question}\n\n[Answer]\n{answer}\n\n[Explanation]\n{explanation}\n\n[Support]\n{support}\n<END>"
    )


@pytest.mark.parametrize(
    ("first", "again", "expected"),
    [
        (written(), "100 °C", "accepted"),
        (written(), "It boils at 100 °C.", "accepted"),
        (written(support=PASSAGE.replace(" ", "\n ", 3)), "100°C", "accepted"),
        (written(), "NONE", "rejected: support does not answer the question"),
        (written(), "70 °C", "rejected: another answer when asked again"),
        (written(), "I'm sorry, I cannot answer this.", "rejected: refusal"),
        (written(answer="101 °C"), "", "rejected: a number of the answer is not in its support"),
        (written(answer="70 °C"), "", "rejected: a number of the answer is not in its support"),
        (written(answer="when bubbles of steam rise"), "", "rejected: answer not in its support"),
        (written(support=PASSAGE.replace("100", "90")), "", "rejected: support not in the text"),
        (written(support="Water boils."), "", "rejected: support too short"),
        (written(question="Does pure water boil at 100 °C on a shore?"), "", "rejected: answer in the question"),
        (written(question="What does the text say of the boiling of water?"), "", "rejected: speaks of the text"),
        (written(explanation="因为在这个温度下蒸气压等于大气压。" * 3), "", "rejected: wrong language"),
        ("NONE", "", "rejected: no question in the text"),
        (written().replace("[Support]", "[Source]"), "", "rejected: no [Support] part"),
    ],
)  # fmt: skip
def test_a_question_is_accepted_where_its_answer_is_supported(first, again, expected):
    assert verdict(ScienceQa(), SEED, first, again) == expected


def test_a_chinese_text_gives_a_chinese_question():
    passage = "光在真空中的速度约为每秒三十万千米，是自然界中最快的速度。"
    answer = written("光在真空中的速度是多少？", "每秒三十万千米", "这是自然界中最快的速度，由测量得到。", passage)
    assert verdict(ScienceQa(), {"text": "物理学常数。" + passage}, answer, "约为每秒三十万千米") == "accepted"


def test_without_asking_again_nothing_is_called_checked():
    assert verdict(ScienceQa(ask_again=False), SEED, written()) == "unchecked"


@given(number=st.integers(0, 10**6).filter(lambda number: number not in (100, 70)))
def test_a_changed_number_is_rejected(number):
    answer = written(answer=f"{number} °C")
    assert verdict(ScienceQa(), SEED, answer) == "rejected: a number of the answer is not in its support"


@given(
    st.lists(st.sampled_from(["[Question]", "[Answer]", "[Explanation]", "[Support]", "<END>", PASSAGE, "100", "x"]))
)
def test_any_answer_is_parsed_or_rejected(pieces):
    assert verdict(ScienceQa(ask_again=False), SEED, "\n".join(pieces)).startswith(("rejected", "unchecked"))
