"""Files of prompts: both forms, the columns that rewards need, the over-long, what is refused with file and line."""

import json
from pathlib import Path
from typing import Any

import pytest
from on_policy_miniature import write_on_policy_config
from sft_miniature import TEMPLATE, write_tokenizer
from transformers import AutoTokenizer

from data_recipes.errors import DataError
from train.config_file import load_config
from train.errors import TrainError
from train.on_policy import OnPolicy, run
from train.tuning.config import OnPolicyConfig
from train.tuning.prompts import ordered_prompts, read_prompts, split_off, stop_ids_of
from train.tuning.rewards.base import make_rewards, settings_of
from train.tuning.run import plan

ASKED = [{"role": "user", "content": "1+1=?"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Any:
    return AutoTokenizer.from_pretrained(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def read(path: Path, lines: list[Any], tokenizer: Any, *, max_length: int = 64, rewards=("verified_answer",)) -> Any:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    chosen = make_rewards({name: settings_of(name, {}) for name in rewards})
    return read_prompts(path, tokenizer, max_length=max_length, rewards=chosen)


def test_texts_and_messages_are_read_and_only_the_columns_that_a_reward_needs_are_kept(tmp_path, tokenizer):
    lines = [
        {"prompt": "1+1=?", "answer": 2, "source": "x"},
        "",
        {"prompt": ASKED, "answer": ["2", "two"], "chosen": "2"},
        {"messages": [{"role": "system", "content": "Add."}, *ASKED], "answer": "2"},
    ]
    rows, counts = read(tmp_path / "prompts.jsonl", lines, tokenizer)
    assert [row["prompt"] for row in rows] == [ASKED, ASKED, lines[3]["messages"]]
    assert [json.loads(row["columns"]) for row in rows] == [{"answer": 2}, {"answer": ["2", "two"]}, {"answer": "2"}]
    assert [row["where"] for row in rows] == [f"prompts.jsonl, line {number}" for number in (1, 3, 4)]
    assert counts["prompts"] == 3


def test_over_long_prompts_are_dropped_and_counted_by_their_tokens_under_the_template(tmp_path, tokenizer):
    lines = [{"prompt": "x" * length, "answer": "1"} for length in (1, 20, 40)]
    tokens = len(
        tokenizer.apply_chat_template([{"role": "user", "content": "x" * 20}], add_generation_prompt=True).input_ids
    )
    rows, counts = read(tmp_path / "a.jsonl", lines, tokenizer, max_length=tokens)
    assert (len(rows), counts["over_long"]) == (2, 1)
    rows, counts = read(tmp_path / "a.jsonl", lines, tokenizer, max_length=tokens - 1)
    assert (len(rows), counts["over_long"]) == (1, 2)
    with pytest.raises(TrainError, match=r"no prompt to answer \(3 read, 3 of more than max_prompt_length 3 tokens\)"):
        read(tmp_path / "a.jsonl", lines, tokenizer, max_length=3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "1+1=?"}, "no 'answer', which the reward 'verified_answer' needs"),
        ({"prompt": "1+1=?", "answer": ""}, "'answer' is ''; expected a text, a number, or a list"),
        ({"prompt": "1+1=?", "answer": {"a": 1}}, "'answer' is {'a': 1}"),
        ({"question": "1+1=?", "answer": "2"}, "neither 'prompt' .* nor 'messages'; found: question, answer"),
        ({"prompt": "", "answer": "2"}, "neither 'prompt'"),
        ({"prompt": [], "answer": "2"}, "neither 'prompt'"),
        ({"prompt": [*ASKED, {"role": "assistant", "content": "2"}], "answer": "2"}, "ends with the user's question"),
        ({"prompt": [{"role": "user", "content": " "}], "answer": "2"}, "ends with the user's question"),
        ({"prompt": [{"role": "user", "content": None}], "answer": "2"}, "message 0 has no text"),
        ({"prompt": [{"role": "human", "content": "x"}], "answer": "2"}, "message 0 has the role 'human'"),
        ("[1]", "expected an object with 'prompt' or 'messages', found list"),
        ("{", "not valid JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, tokenizer, line, message):
    with pytest.raises(TrainError, match=rf"b.jsonl, line 2: .*{message}"):
        read(tmp_path / "b.jsonl", [{"prompt": "x", "answer": "1"}, line], tokenizer)


def test_each_epoch_asks_every_prompt_once_in_an_order_of_its_own(tmp_path, tokenizer):
    rows, _ = read(tmp_path / "c.jsonl", [{"prompt": f"{n}", "answer": n} for n in range(12)], tokenizer)
    dataset, steps = ordered_prompts(rows, prompts_a_step=4, epochs=2, seed=0)
    places = dataset["where"]
    assert steps == 6
    assert sorted(places[:12]) == sorted(places[12:]) == sorted(row["where"] for row in rows)
    assert places[:12] != places[12:]


def test_a_share_is_held_out_for_good(tmp_path, tokenizer):
    rows, _ = read(tmp_path / "d.jsonl", [{"prompt": f"{n}", "answer": n} for n in range(10)], tokenizer)
    learned, held_out = split_off(rows, 0.2, seed=0)
    assert (len(learned), len(held_out)) == (8, 2)
    assert not {row["where"] for row in learned} & {row["where"] for row in held_out}
    with pytest.raises(TrainError, match=r"evaluation.share: 1 prompt cannot be split"):
        split_off(rows[:1], 0.2, seed=0)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (TEMPLATE.replace("add_generation_prompt", "false"), "does not begin an answer"),
        (TEMPLATE.replace("'<|eot_id|>'", "''"), "end in a special token"),
        (None, "has no chat template"),
    ],
)
def test_a_template_that_cannot_ask_or_stop_is_refused(tmp_path, template, message):
    loaded = AutoTokenizer.from_pretrained(write_tokenizer(tmp_path))
    loaded.chat_template = template
    with pytest.raises(TrainError, match=message):
        stop_ids_of(loaded, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 18, "micro_batch_size": 2}, "batch_size 18 is not a multiple of samples 4"),
        ({"samples": 1}, "samples"),
        ({"reward_clip": [10, -20]}, "the first number is not below the second"),
        ({"rewards": {}}, "rewards"),
        ({"rewards": {"verified_answers": {}}}, r"'verified_answers' is no reward. Did you mean 'verified_answer'"),
        ({"rewards": {"unfinished": {"weight": float("nan")}}}, "finite number"),
        ({"lora": {"rank": 2, "alpha": 4, "dropout": 0.1}}, "lora.dropout: must be 0 here"),
        ({"trainer": {"top_k": 50}}, "trainer.top_k cannot be set: what is learned from"),
        ({"trainer": {"num_generations": 8}}, r"set by this config's own keys \(samples\)"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, changes, message):
    with pytest.raises(TrainError, match=message):
        load_config(OnPolicyConfig, write_on_policy_config(tmp_path, **changes))


def test_a_dry_run_counts_and_checks_everything_and_leaves_nothing(tmp_path):
    path = write_on_policy_config(tmp_path, evaluation={"share": 0.25, "every_steps": 2})
    found = plan(OnPolicy(load_config(OnPolicyConfig, path)))
    assert (found["prompts"], found["evaluation_prompts"], found["steps"]) == (32, 8, 6)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work").exists()
    with pytest.raises(TrainError, match=r"max_prompt_length [+] max_completion_length = 1008 is more than the 256"):
        plan(OnPolicy(load_config(OnPolicyConfig, path, ["max_prompt_length=1000"])))
    with pytest.raises(DataError, match="no such model on this machine"):
        plan(OnPolicy(load_config(OnPolicyConfig, path, [f"rewards.reward_model.model={tmp_path / 'nowhere'}"])))


def test_held_out_prompts_are_asked_before_while_and_after(tmp_path):
    path = write_on_policy_config(tmp_path, max_steps=2, evaluation={"share": 0.25, "every_steps": 1})
    out = run(load_config(OnPolicyConfig, path))
    lines = [json.loads(line) for line in (out / "evaluation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all("reward" in line and "rewards/reward_model/mean" in line for line in lines)
