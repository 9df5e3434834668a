"""Variety by tags: what is taken, in which order, and tags from a model on a server."""

from pathlib import Path

import pytest
from endpoint_server import last, serve_answers
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import DataError
from train.selection.config import TaggerSettings
from train.selection.tags import ask_for_tags, frequent_tags, normal_tag, read_tags, varied

TAGS = st.lists(st.frozensets(st.sampled_from("abcdef"), max_size=4), max_size=30)


@given(TAGS, st.integers(0, 40), st.booleans())
def test_as_many_are_taken_as_wanted_and_none_twice(
    tags: list[frozenset[str]], count: int, complex_first: bool
) -> None:
    taken = varied(tags, count, complex_first=complex_first)
    assert len(taken) == len(set(taken)) == min(count, len(tags))


@given(TAGS, st.booleans())
def test_every_tag_is_seen_before_any_dialogue_is_taken_that_adds_none(
    tags: list[frozenset[str]], complex_first: bool
) -> None:
    taken = varied(tags, len(tags), complex_first=complex_first)
    every: frozenset[str] = frozenset().union(*tags)
    seen: set[str] = set()
    for place in taken:
        assert not tags[place] <= seen or seen == every
        seen |= tags[place]
    assert seen == every


def test_likest_or_most_tagged_come_first_and_untagged_last() -> None:
    tags = [frozenset(one) for one in ("a", "", "ab", "abc", "a")]
    assert varied(tags, 5, complex_first=False) == [0, 2, 3, 4, 1]
    assert varied(tags, 5, complex_first=True) == [3, 2, 0, 4, 1]


def test_tags_get_one_form_and_rare_ones_go() -> None:
    assert normal_tag("  Data-Structure_s (C++)  ") == "data structure s c++"
    assert normal_tag("Ｃ#") == "c#"
    found = frequent_tags([["Maths", "odd one"], ["maths!"], ["MATHS", "proof"], ["Proof"]], 2)
    assert found == [{"maths"}, {"maths"}, {"maths", "proof"}, {"proof"}]


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ('["maths", "proof"]', ["maths", "proof"]),
        ('Here they are:\n```json\n["数学"]\n```', ["数学"]),
        ("maths, proof", None),
        ("[1, 2]", None),
        ("[]", None),
        ('["a"', None),
        (str([f"t{number}" for number in range(40)]).replace("'", '"'), None),
    ],
)
def test_tags_are_read_from_a_list_of_texts_alone(answer: str, tags: list[str] | None) -> None:
    assert read_tags(answer) == tags


def dialogue(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]


def test_a_server_is_asked_once_for_a_dialogues_tags(tmp_path: Path) -> None:
    with serve_answers(lambda body: '["sum", "digits"]' if "7+5" in last(body) else "no idea") as server:
        settings = TaggerSettings(endpoint=server.url, model="served")
        for _ in range(2):
            found = ask_for_tags([dialogue("7+5?"), dialogue("why?")], settings, tmp_path / "tags.jsonl")
            assert found == [["sum", "digits"], []]
        assert len(server.asked) == 2
        with pytest.raises(DataError, match="serves no model 'other'"):
            ask_for_tags([], TaggerSettings(endpoint=server.url, model="other"), tmp_path / "tags.jsonl")
