"""Which question a model is shown with: one that it answered right, of the kind farthest above chance."""

from typing import Any

from eval.demonstration import demonstration, was_right_nowhere
from eval.tasks.problems import SAMPLE_KEYS, choose_samples, tally


def answered(kind: str, language: str, right: list[bool], chance: float | None, level: int = 1) -> list[dict[str, Any]]:
    """A model's answers to the questions of a kind."""
    about = {"kind": kind, "level": level, "language": language, "chance": chance, "tokens_cut": 0}
    shown = {"text": "", "output": "", "expected": ""}
    return [
        about | shown | {"prompt": f"{kind} {language} {number}?", "correct": correct}
        for number, correct in enumerate(right)
    ]


def scores_of(*answers: list[dict[str, Any]]) -> dict[str, Any]:
    together = [answer for some in answers for answer in some]
    return {"rows": tally(together), "samples": choose_samples(together)}


def test_the_kind_farthest_above_chance_is_shown_and_not_the_one_that_is_guessed() -> None:
    guessed = answered("parity", "en", [True, True, True, False], 0.5)
    learnt = answered("last-digit", "zh", [False, True, True, False], 0.1)
    scores = scores_of(guessed, learnt, answered("sum", "en", [False] * 4, None, level=2))
    shown = demonstration(scores)
    assert shown is not None
    assert shown["prompt"] == "last-digit zh 1?"
    row = scores["rows"][shown["row"]]
    assert (row["group"], row["correct"], row["count"]) == ("level 1 / last digit", 2, 4)
    assert not was_right_nowhere(scores)


def test_a_right_answer_that_is_not_the_first_of_its_kind_is_among_the_samples() -> None:
    scores = scores_of(answered("sum", "en", [False, False, True], 0.0), answered("sum", "zh", [False], 0.0))
    assert [sample["prompt"] for sample in scores["samples"]] == ["sum en 0?", "sum en 2?", "sum zh 0?"]
    assert demonstration(scores)["prompt"] == "sum en 2?"  # type: ignore[index]
    assert set(scores["samples"][0]) == set(SAMPLE_KEYS)


def test_a_model_that_was_right_nowhere_or_asked_nothing_has_none() -> None:
    wrong, unasked = scores_of(answered("sum", "en", [False] * 3, 0.0)), {"rows": [], "samples": []}
    assert demonstration(wrong) is None
    assert was_right_nowhere(wrong)
    assert demonstration(unasked) is None
    assert not was_right_nowhere(unasked)
    # A benchmark's samples have no kinds: it may have been right, and is not said to have been wrong.
    row = {"task": "quiz", "group": "all", "better": "higher", "value": 0.5, "count": 2, "chance": None}
    other = {"rows": [row], "samples": [{"prompt": "?", "correct": True, "expected": "yes"}]}
    assert demonstration(other) is None
    assert not was_right_nowhere(other)
