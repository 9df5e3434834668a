"""Preference pairs: which of several answers is preferred, why a prompt gives none, and which prompts are hard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.instruct.pairs import Pair, PairPrompt, hardest, preference_pairs


def question(text="2+3?", responses=(), answer=None, policy="on-policy", **origin):
    return PairPrompt([{"role": "user", "content": text}], list(responses), policy, answer, origin)


def ends_with(gold, response):
    return response.endswith(gold)


def by_length(conversations):
    return [len(one[-1]["content"]) for one in conversations]


def test_a_right_answer_is_preferred_to_a_wrong_one_and_a_long_to_a_short_one():
    prompts = [
        question(responses=["It is 5", "It is 6", "It is surely 6"], answer="5", source="math"),
        question("tell me", ["no", "a long story", "a story"], policy="off-policy", source="chat"),
    ]
    found = preference_pairs(prompts, is_right=ends_with, reward=by_length)
    first, second = (pair.line() for pair in found.pairs)
    assert [Pair.from_line(line).line() for line in (first, second)] == [first, second]
    assert first == {
        "prompt": [{"role": "user", "content": "2+3?"}],
        "chosen": [{"role": "assistant", "content": "It is 5"}],
        "rejected": [{"role": "assistant", "content": "It is 6"}],  # of two wrong ones the one of lower reward
        "policy": "on-policy",
        "by": "verified",
        "answer": "5",
        "chosen_score": 1.0,
        "rejected_score": 0.0,
        "mean_score": 1 / 3,
        "source": "math",
    }
    assert (second["chosen"][0]["content"], second["rejected"][0]["content"]) == ("a long story", "no")
    assert (second["by"], second["chosen_score"], second["rejected_score"]) == ("reward", 12.0, 2.0)
    assert found.counts == {
        "on-policy": {"prompts": 1, "pairs": 1, "by verified answers": 1},
        "off-policy": {"prompts": 1, "pairs": 1, "by reward": 1},
    }


def test_prompts_without_a_pair_are_counted_by_why():
    prompts = [
        question("a", ["is 5", "so 5"], "5"),
        question("b", ["is 6", "so 6"], "5"),
        question("c", ["same", "same", " "]),
        question("d", ["four", "five"]),
        question("e", ["one", "two!"]),
    ]
    counts = preference_pairs(prompts, is_right=ends_with, reward=by_length, margin=1).counts["on-policy"]
    assert counts == {
        "prompts": 5,
        "pairs": 0,
        "all answers right": 1,
        "all answers wrong": 1,
        "fewer than two different answers": 1,
        "tie": 2,
    }
    undecided = preference_pairs([question("a", ["x", "y"])], is_right=ends_with)
    assert undecided.counts["on-policy"]["nothing to decide by"] == 1


@given(st.lists(st.sampled_from(["5", "6", "is 5", "is 6", "maybe 6", "so 5"]), max_size=8), st.integers(0, 5))
def test_a_pair_holds_a_right_and_a_wrong_answer_whatever_their_order(responses, seed):
    found = preference_pairs([question(responses=responses, answer="5")], is_right=ends_with, seed=seed)
    again = preference_pairs([question(responses=responses[::-1], answer="5")], is_right=ends_with, seed=seed)
    right = {text for text in responses if text.endswith("5")}
    wrong = set(responses) - right
    assert len(found.pairs) == (1 if right and wrong else 0)
    for pair in found.pairs:
        assert pair.chosen in right
        assert pair.rejected in wrong
        assert (pair.chosen, pair.rejected) == (again.pairs[0].chosen, again.pairs[0].rejected)


def test_the_hardest_prompts_are_those_with_the_fewest_right_answers_and_the_lowest_rewards():
    prompts = [
        question("easy", ["is 5", "so 5", "5", "6"], "5", source="math"),
        question("hard", ["is 6", "so 7", "8", "5"], "5", source="math"),
        question("liked", ["a long long answer", "a long answer"]),
        question("disliked", ["so", "bad"]),
    ]
    pairs = preference_pairs(prompts, is_right=ends_with, reward=by_length).pairs
    lines = hardest(pairs, 10)
    assert [(line["prompt"][0]["content"], line["hardness"]) for line in lines] == [
        ("hard", 0.75),
        ("disliked", 0.5),
        ("easy", 0.25),
        ("liked", 0.0),
    ]
    assert (lines[0]["answer"], lines[0]["source"], lines[1]["answer"]) == ("5", "math", None)
    assert hardest(pairs, 2) == lines[:2]


def test_a_reward_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="nan"):
        preference_pairs([question("a", ["x", "y"])], reward=lambda conversations: [float("nan")] * 2)
