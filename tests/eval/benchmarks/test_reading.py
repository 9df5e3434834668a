"""QuAC, TriviaQA and MMLU by chain of thought, scored with planted answers."""

import pytest

from eval.benchmarks.tasks.mmlu_cot.letters import final_letter
from eval.benchmarks.tasks.quac.questions import f1


def values(result):
    return {row["measure"]: row["value"] for row in result.rows if row["group"] == "all"}


def test_quac_gives_each_question_its_best_overlap(answered, items):
    right = answered("quac-0shot", lambda prompt, doc, sample: f" {doc['answers'][-1].upper()}! And more.\nQUESTION: x")
    assert values(right) == {"F1": 1, "exact match": 1}
    assert len(right.asked) == sum(len(turns) for *_, turns in items.DIALOGUES)
    for prompt, settings, _ in right.asked:
        assert "CANNOTANSWER" not in prompt
        assert prompt.endswith("\n\nANSWER:")
        assert (settings["until"], settings["max_gen_toks"]) == (["\n"], 64)
    assert values(answered("quac-0shot", lambda *_: "")) == {"F1": 0, "exact match": 0}
    unknown = answered("quac-0shot", lambda *_: "I don't know.")
    assert values(unknown) == {"F1": pytest.approx(0.2), "exact match": pytest.approx(0.2)}


def test_overlap_is_of_sets_of_words():
    assert f1("the red, red mill", "a mill") == pytest.approx(2 / 3)
    assert f1("", "mill") == f1("mill", "") == 0


def test_triviaqa_takes_every_accepted_name_and_shows_five_others(answered):
    for answer in (" snow", " The Snow.", " Snow (from clouds)"):
        assert values(answered("triviaqa-5shot", lambda *_, answer=answer: answer))["exact match"] == 1
    for answer in ("", " rain", " snow and rain"):
        assert values(answered("triviaqa-5shot", lambda *_, answer=answer: answer))["exact match"] == 0
    for prompt, _, doc in answered("triviaqa-5shot", lambda *_: "").asked:
        assert prompt.count("Q: ") == 6
        assert prompt.count(doc["question"]) == 1


MMLU = "mmlu-0shot-cot-chat"


@pytest.mark.parametrize(
    "form",
    [
        "Step 1. The answer is ({}).",
        "so \\boxed{{{}}}",
        "**Answer:** {}",
        "(A) or (B)?\nThe correct answer is:\n({}) x",
        "{}",
    ],
)
def test_mmlu_letters_count_in_every_form(answered, form):
    assert values(answered(MMLU, lambda p, doc, s: form.format("ABCD"[doc["answer"]]), limit=1))["accuracy"] == 1
    assert values(answered(MMLU, lambda p, doc, s: form.format("ABCD"[doc["answer"] - 1]), limit=1))["accuracy"] == 0


def test_mmlu_rows_go_from_the_whole_to_the_subjects(answered):
    rows = answered(MMLU, lambda *_: "", limit=1).rows
    assert {row["value"] for row in rows} == {0}
    assert len([row for row in rows if row["group"].count("/") == 2]) == 57


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).\n\nQuestion: x\nThe answer is (C).", "B"),
        ("The answer is A good one", None),
        ("The answer is (E)", None),
        ("the answer is paris", "B"),
        ("\\boxed{\\text{(A)}}", "A"),
        ("I think it is\n\nD.", "D"),
        ("", None),
    ],
)
def test_the_last_letter_is_read(text, letter):
    assert final_letter(text, ["london", "paris", "rome", "oslo"]) == letter
