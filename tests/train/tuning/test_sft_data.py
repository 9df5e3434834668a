"""Dialogues to rows, and rows to training order."""

import json

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from sft_miniature import TEMPLATE, dialogue, write_dialogues, write_tokenizer
from transformers import AutoTokenizer

from train.errors import TrainError
from train.tuning.data import check_chat_template, training_order, write_rows
from train.tuning.dialogues import parse_dialogue


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def rows_of(dialogues, tmp_path, tokenizer_dir, *, max_length=128, workers=1):
    out = tmp_path / f"rows-{workers}.arrow"
    summary = write_rows(dialogues, out, tokenizer=tokenizer_dir, max_length=max_length, workers=workers)
    return Dataset.from_file(str(out)), summary


def test_only_the_answer_and_its_end_of_turn_are_trained_on(tmp_path, tokenizer_dir):
    path = tmp_path / "dialogues.jsonl"
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": "five"},
        {"role": "user", "content": "in digits"},
        {"role": "assistant", "content": "5"},
    ]
    path.write_text(json.dumps({"messages": messages, "kind": "sum"}) + "\n")
    rows, summary = rows_of(path, tmp_path, tokenizer_dir)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    labels = rows[0]["labels"]
    trained = [label for label in labels if label != -100]
    assert tokenizer.decode(trained) == "five<|eot_id|>5<|eot_id|>"
    assert all(label in (-100, token) for label, token in zip(labels, rows[0]["input_ids"], strict=True))
    assert tokenizer.decode(rows[0]["input_ids"]) == tokenizer.apply_chat_template(messages, tokenize=False)
    assert summary["stop_ids"] == [tokenizer.convert_tokens_to_ids("<|eot_id|>")]
    assert summary["counts"]["trained_tokens"] == len("five5") + 2


def test_long_dialogues_are_cut_or_dropped_and_counted(tmp_path, tokenizer_dir):
    path = tmp_path / "dialogues.jsonl"
    long_answer = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "x" * 200}]
    long_question = [{"role": "user", "content": "x" * 200}, {"role": "assistant", "content": "go"}]
    with path.open("w") as file:
        for messages in (long_answer, long_question, dialogue(0)["messages"]):
            file.write(json.dumps({"messages": messages}) + "\n")
    rows, summary = rows_of(path, tmp_path, tokenizer_dir, max_length=100)
    assert summary["counts"]["dialogues"] == 3
    assert summary["counts"]["truncated"] == 1
    assert summary["counts"]["dropped"] == 1
    assert max(len(row) for row in rows["input_ids"]) == 100
    assert summary["counts"]["tokens"] == sum(len(row) for row in rows["input_ids"])


@pytest.mark.slow
def test_the_rows_do_not_depend_on_the_number_of_workers(tmp_path, tokenizer_dir):
    path = write_dialogues(tmp_path / "dialogues.jsonl", 1100)
    write_rows(path, tmp_path / "one.arrow", tokenizer=tokenizer_dir, max_length=64, workers=1)
    write_rows(path, tmp_path / "two.arrow", tokenizer=tokenizer_dir, max_length=64, workers=2)
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "two.arrow").read_bytes()
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


MESSAGES = [{"role": "user", "content": "2+3?\n\nin words"}, {"role": "assistant", "content": "five"}]
FORMS = {
    "trl": {"messages": MESSAGES, "conversations": None},
    "sharegpt": {"conversations": [{"from": "human", "value": "2+3?\n\nin words"}, {"from": "gpt", "value": "five"}]},
    "sharegpt with roles": {"conversations": MESSAGES},
    "alpaca": {"instruction": "2+3?", "input": "in words", "output": "five"},
    "alpaca without input": {"instruction": "2+3?\n\nin words", "input": "", "output": "five"},
    "prompt and completion": {"prompt": "2+3?\n\nin words", "completion": "five"},
    "conversational prompt": {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", ["lines.jsonl", "list.json"])
def test_the_common_forms_of_dialogues_give_the_same_rows(tmp_path, tokenizer_dir, form, file):
    dialogues = [{"messages": MESSAGES}, FORMS[form]]
    text = json.dumps(dialogues, indent=1) if file == "list.json" else "\n".join(map(json.dumps, dialogues))
    (tmp_path / file).write_text(text)
    rows, summary = rows_of(tmp_path / file, tmp_path, tokenizer_dir)
    assert summary["counts"]["dialogues"] == 2
    assert rows[0] == rows[1]


def test_the_system_text_of_alpaca_and_the_roles_of_sharegpt_are_kept(tmp_path):
    alpaca = {"system": "Be brief.", "instruction": "2+3?", "output": "5"}
    assert [message["role"] for message in parse(alpaca)] == ["system", "user", "assistant"]
    turns = [("system", "s"), ("human", "h"), ("observation", "o"), ("gpt", "g")]
    sharegpt = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    assert [message["role"] for message in parse(sharegpt)] == ["system", "user", "tool", "assistant"]


def parse(value):
    return parse_dialogue(json.dumps(value).encode(), where="here")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"question": "a", "answer": "b"}, r"found: question, answer. Expected .*\"conversations\".*\"instruction\""),
        ({"instruction": "a", "input": "b"}, "found: instruction, input. Expected"),
        ({"conversations": "a"}, "not a list"),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "message 0 has the role 'bot'"),
        ({"conversations": [{"from": "gpt"}]}, "message 0 has no text"),
        ({"conversations": [3]}, "message 0 has no text"),
        ({"prompt": "a", "completion": 3}, "message 1 has no text"),
        ({"instruction": ["a"], "output": "b"}, "message 0 has no text"),
    ],
)
def test_a_form_that_is_not_quite_one_is_refused_with_those_that_are(value, message):
    with pytest.raises(TrainError, match=message):
        parse(value)


def test_a_list_that_is_none_is_refused(tmp_path, tokenizer_dir):
    (tmp_path / "list.json").write_text('[{"prompt": "a"')
    with pytest.raises(TrainError, match="not a JSON list"):
        rows_of(tmp_path / "list.json", tmp_path, tokenizer_dir)
    (tmp_path / "list.json").write_text('[{"prompt": "a", "completion": "b"}, {"prompt": "a"}]')
    with pytest.raises(TrainError, match="entry 2: no 'messages'; found: prompt"):
        rows_of(tmp_path / "list.json", tmp_path, tokenizer_dir)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 3: not valid JSON"),
        ('{"message": []}', "line 3: no 'messages'; did you mean 'message'"),
        ('{"text": "hello"}', "line 3: no 'messages'; found: text"),
        ('["hello"]', "line 3: no 'messages'; found: list"),
        ('{"messages": []}', "line 3: 'messages' is not a list with at least one message"),
        ('{"messages": [{"role": "user"}]}', "line 3: message 0 has no text in 'content'"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "line 3: message 0 has the role 'bot'"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "line 3: no message of the role 'assistant'"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, tokenizer_dir, line, message):
    path = tmp_path / "dialogues.jsonl"
    path.write_text(json.dumps(dialogue(0)) + "\n\n" + line + "\n")
    with pytest.raises(TrainError, match=message):
        rows_of(path, tmp_path, tokenizer_dir)


def test_a_template_without_generation_marks_is_refused(tmp_path):
    plain = TEMPLATE.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
    folder = write_tokenizer(tmp_path, template=plain)
    with pytest.raises(TrainError, match=r"no \{% generation %\} marks"):
        check_chat_template(AutoTokenizer.from_pretrained(folder), folder)


def test_a_template_that_would_not_teach_the_model_to_stop_is_refused(tmp_path):
    outside = TEMPLATE.replace(
        "{{- message['content'] + '<|eot_id|>' }}{%- endgeneration %}",
        "{{- message['content'] }}{%- endgeneration %}{{- '<|eot_id|>' }}",
    )
    folder = write_tokenizer(tmp_path / "tokenizer", template=outside)
    path = write_dialogues(tmp_path / "dialogues.jsonl", 2)
    with pytest.raises(TrainError, match="would not learn to stop"):
        rows_of(path, tmp_path, folder)


@given(
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 8),
    epochs=st.floats(0.2, 3),
    group_by_length=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_every_epoch_reads_every_row_once(rows, batch_size, epochs, group_by_length, seed):
    lengths = np.random.default_rng(seed).integers(1, 50, size=rows)
    arguments = {"batch_size": batch_size, "group_by_length": group_by_length, "seed": seed}
    if int(rows * epochs) < batch_size:
        with pytest.raises(TrainError, match="do not fill one batch"):
            training_order(lengths, epochs=epochs, **arguments)
        return
    order = training_order(lengths, epochs=epochs, **arguments)
    assert order.shape == (int(rows * epochs) // batch_size, batch_size)
    times_read = np.bincount(order.ravel(), minlength=rows)
    assert times_read.max() - times_read.min() <= 1
    assert times_read.max() <= np.ceil(epochs)
    assert (np.diff(lengths[order], axis=1) <= 0).all()
    assert (order == training_order(lengths, epochs=epochs, **arguments)).all()


def test_grouping_by_length_saves_padding_and_mixes_the_steps():
    lengths = np.random.default_rng(0).integers(1, 200, size=3200)
    common = {"batch_size": 32, "epochs": 1, "seed": 0}

    def padding(group_by_length: int) -> float:
        longest = lengths[training_order(lengths, group_by_length=group_by_length, **common)].max(axis=1)
        return longest.sum() * 32 / lengths.sum()

    assert padding(1) > 1.8
    assert padding(16) < 1.15
    means = lengths[training_order(lengths, group_by_length=16, **common)].mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3
