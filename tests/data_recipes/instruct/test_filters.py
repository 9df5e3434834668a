"""Filters by themselves: grades, losses, shares, mixtures and the reference work."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from real_dialogues import REFERENCE, docs, sums, write_lines, write_mixture
from sft_miniature import write_llama, write_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_recipes.errors import DataError
from data_recipes.instruct.base_loss import BaseModelLoss, find_base_model
from data_recipes.instruct.config import load_instruct_config
from data_recipes.instruct.reference import Reference
from data_recipes.instruct.run import instruct
from data_recipes.instruct.steps.judge import conversation_of, grades_in
from data_recipes.instruct.steps.ranking import MixtureSettings, apportion, wanted_of
from data_recipes.instruct.steps.verified_answer import is_right

GRADES = {"instruction_following": 5, "informativeness": 4, "truthfulness": 1}


@pytest.mark.parametrize(
    "text", [json.dumps(GRADES), f"```json\n{json.dumps(GRADES, indent=1)}\n```", f"So: {GRADES}".replace("'", '"')]
)
def test_grades_are_read(text):
    assert grades_in(text) == GRADES


@pytest.mark.parametrize(
    "changes",
    [
        {"truthfulness": 6},
        {"truthfulness": 0},
        {"truthfulness": 4.5},
        {"truthfulness": "4"},
        {"truthfulness": True},
        {"more": 3},
    ],
)
def test_anything_less_than_three_whole_grades_is_none(changes):
    assert grades_in(json.dumps({**GRADES, **changes})) is None
    assert grades_in(json.dumps({"instruction_following": 5})) is None
    assert grades_in(json.dumps(GRADES) * 2) is None
    assert grades_in("{...}") is grades_in("five") is grades_in("") is None


def test_of_a_long_conversation_the_judge_sees_both_ends():
    messages = [{"role": "user", "content": "begin" + "x" * 500}, {"role": "assistant", "content": "y" * 500 + "end"}]
    text = conversation_of(messages, 200)
    assert text.startswith("User: begin")
    assert text.endswith("yend")
    assert "characters left out" in text
    assert conversation_of(messages, 2000) == f"User: begin{'x' * 500}\n\nAssistant: {'y' * 500}end"


@pytest.mark.parametrize(
    ("gold", "response", "right"),
    [
        ("40", "Together \\boxed{40} pens.", True),
        ("So 5 * 8 = 40\n#### 40", "The answer is 40.", True),
        ("\\frac{1}{2}", "It is \\boxed{0.5}", True),
        ("40", "Together \\boxed{41} pens.", False),
        ("40", "", False),
    ],
)
def test_answers_are_compared_as_mathematics(gold, response, right):
    assert is_right(gold, response) is right


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tokenizer(write_llama(tmp_path_factory.mktemp("base")))


def test_the_loss_is_that_of_the_answers_alone_whatever_else_is_in_the_batch(base):
    dialogues = [
        [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "five"}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "and 4+4, please?"},
            {"role": "assistant", "content": "eight"},
            {"role": "user", "content": "thanks"},
            {"role": "assistant", "content": "you are welcome"},
        ],
        [{"role": "user", "content": "x" * 400}, {"role": "assistant", "content": "beyond what is read"}],
    ]
    loss = BaseModelLoss(find_base_model(str(base))[0], max_tokens=256, batch_tokens=512, dtype="float32")
    together = loss.losses(dialogues * 3)
    assert together[:3] == together[3:6] == loss.losses(dialogues)
    assert [loss.losses([one])[0] for one in dialogues] == together[:3]
    assert together[2][1] is None
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    for messages, (length, value) in zip(dialogues[:2], together, strict=False):
        text = "\n\n".join(message["content"] for message in messages)
        ids = torch.tensor([[1, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        answered = np.zeros(ids.shape[1], dtype=bool)
        start = 1
        for number, message in enumerate(messages):  # a token a byte
            size = len(message["content"]) + (2 if number else 0)
            answered[start : start + size] = message["role"] == "assistant"
            start += size
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").numpy()
        assert length == ids.shape[1]
        assert value == pytest.approx(each[answered[1:]].mean(), abs=1e-5)


def test_what_is_no_causal_model_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no config.json and no tokenizer.json"):
        find_base_model(str(tmp_path))


@given(st.integers(0, 1000), st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_whole_numbers_add_up_and_stay_within_one_of_their_shares(total, weights):
    shares = {str(number): weight / sum(weights) for number, weight in enumerate(weights)}
    found = apportion(total, shares)
    assert sum(found.values()) == total
    assert all(abs(found[name] - total * share) < 1 + 1e-6 for name, share in shares.items())


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.floats(0.1, 5)), min_size=2, max_size=6),
    st.one_of(st.none(), st.integers(1, 120)),
)
def test_a_mixture_takes_no_more_than_there_is_and_fills_categories_from_their_sources(sources, dialogues):
    there = {f"s{number}": count for number, (_, count, _) in enumerate(sources)}
    categories = {f"s{number}": category for number, (category, _, _) in enumerate(sources)}
    weights = {f"s{number}": weight for number, (_, _, weight) in enumerate(sources)}
    settings = MixtureSettings(
        step="mixture", shares={"a": 0.75, "b": 0.25}, dialogues=dialogues, categories=categories, weights=weights
    )
    wanted = wanted_of(there, settings)
    of = {name: sum(count for one, count in there.items() if categories[one] == name) for name in "ab"}
    total = dialogues if dialogues is not None else min(int(of["a"] / 0.75), int(of["b"] / 0.25))
    for name, target in apportion(total, settings.shares).items():
        given_ = sum(count for one, count in wanted.items() if categories[one] == name)
        assert given_ == min(target, of[name])
    assert all(0 <= wanted[name] <= there[name] for name in there)


def test_a_share_is_dropped_to_the_dialogue_by_the_column_of_an_earlier_step(tmp_path):
    step = {"step": "drop-share", "column": "answer_characters"}
    steps = [{"step": "dialogue-rules"}, {**step, "lowest": 0.25, "only": {"category": "code"}}]
    config = write_mixture(tmp_path, None, plants=False, steps=steps)
    instruct(load_instruct_config(config), tmp_path / "out")
    kept = [json.loads(line) for line in (tmp_path / "out/train.jsonl").read_text().splitlines()]
    lengths = sorted(len(one["messages"][1]["content"]) for one in docs())
    found = sorted(len(one["messages"][1]["content"]) for one in kept if one["source"] == "docs")
    assert found == lengths[round(0.25 * len(lengths)) :]
    assert len([one for one in kept if one["source"] == "sums"]) == len(sums())


def test_the_reference_finds_the_entry_of_a_question_and_knows_names():
    reference = Reference(REFERENCE)
    assert [found.title for found in reference.look_up("故宫在哪里，什么时候建成？", 1)] == ["故宫"]
    assert reference.look_up("???", 3) == []
    names = reference.entities("杜甫和李白到过 New York 的长城，写了《春望》，在712年。")
    assert set(names) == {"杜甫", "李白", "New York", "长城", "春望", "712"}
    assert Reference([]).look_up("故宫", 3) == []


def test_a_reference_without_the_columns_is_refused(tmp_path):
    config = write_mixture(tmp_path, "http://localhost:1/v1")
    write_lines(tmp_path / "baike.jsonl", [{"name": "李白", "text": "诗人"}])
    with pytest.raises(DataError, match="no column 'title'"):
        load_instruct_config(config)
