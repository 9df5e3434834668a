"""Printed lines that hardly differ are thinned out; code, prose and lines that say something are not."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.cleaning.steps.base import Batch
from data_recipes.cleaning.steps.repeated_lines import (
    RepeatedLines,
    RepeatedLinesSettings,
    edit_distance,
    similar_to_previous,
)


def rewritten(text: str, **settings) -> str | None:
    step = RepeatedLines(RepeatedLinesSettings(step="repeated-lines", **settings))
    return step.rewrite(Batch("source", ["file"], [text], {}))[0]


def fenced(lines: list[str], language: str = "") -> str:
    return "\n".join(["```" + language, *lines, "```"])


PROGRESS = [f"{n:3}%|{'█' * (n // 10):10}| {n}/100 [00:{n:02}<00:{99 - n:02}, 1.0it/s]" for n in range(0, 100, 2)]


@given(st.text("ab中", max_size=9), st.text("ab中", max_size=9))
def test_edit_distance_is_that_of_the_plain_recursion(one: str, other: str) -> None:
    @cache
    def plain(first: int, second: int) -> int:
        if first == len(one) or second == len(other):
            return len(one) - first + len(other) - second
        changed = plain(first + 1, second + 1) + (one[first] != other[second])
        return min(changed, plain(first + 1, second) + 1, plain(first, second + 1) + 1)

    arrays = [np.array([ord(character) for character in text], dtype=np.uint32) for text in (one, other)]
    assert edit_distance(*arrays) == plain(0, 0)


def test_a_progress_bar_is_cut_to_its_ends() -> None:
    text = f"Training\n\n{fenced(PROGRESS)}\n\nIt is done."
    assert rewritten(text) == f"Training\n\n{fenced([*PROGRESS[:3], '...', PROGRESS[-1]])}\n\nIt is done."


def test_each_run_is_cut_by_itself_and_blocks_are_apart() -> None:
    epochs = [f"Epoch {n}: loss 0.{n:03}" for n in range(20)]
    block = fenced(["starting up", *epochs, "", *PROGRESS, "saved to model.bin"])
    short = ["...", epochs[-1], "", *PROGRESS[:3], "...", PROGRESS[-1], "saved to model.bin"]
    assert rewritten(f"{block}\n{block}") == "\n".join([fenced(["starting up", *epochs[:3], *short])] * 2)


@pytest.mark.parametrize(
    "text",
    [
        fenced([f"x{n} = load({n})" for n in range(50)], "python"),
        "\n".join(PROGRESS),
        fenced(PROGRESS[:5]),
        fenced(["alpha", "a second line", "and now for something else", "42", "", "", "", "", "", ""]),
        "```\nnever closed\n" + "\n".join(PROGRESS),
        "````\n```\n````",
        "",
    ],
)
def test_code_prose_and_short_runs_stay_the_same_text(text: str) -> None:
    assert rewritten(text) is text or rewritten(text) == text


def test_a_block_within_a_longer_fence_is_not_taken_for_its_end() -> None:
    text = "\n".join(["````", "```", *PROGRESS, "```", "````"])
    assert rewritten(text) == "\n".join(["````", "```", *PROGRESS[:3], "...", PROGRESS[-1], "```", "````"])


def test_thresholds_are_those_of_the_settings() -> None:
    lines = ["abcdefghij", "abcdefghiX", "abcdefgXYZ"]
    assert similar_to_previous(lines, 0.9).tolist() == [False, True, False]
    assert similar_to_previous(lines, 0.7).tolist() == [False, True, True]
    assert similar_to_previous(["", "", "a"], 0.7).tolist() == [False] * 3
    assert rewritten(fenced(PROGRESS), kept=1) == fenced([PROGRESS[0], "...", PROGRESS[-1]])


def test_fences_that_are_never_closed_take_no_longer() -> None:
    text = "\n".join("`" * length for length in range(3, 3000))
    assert rewritten(text) == text
