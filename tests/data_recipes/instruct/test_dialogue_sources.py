"""Sources of dialogues: the four forms by columns, what is no dialogue, and what a config refuses."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from real_dialogues import pair, write_lines

from data_recipes.cleaning.config import step_kinds
from data_recipes.errors import DataError
from data_recipes.instruct.config import checked_instruct, load_instruct_config, shipped_configs
from data_recipes.instruct.gather import gather
from data_recipes.instruct.pair_config import PairSource
from data_recipes.instruct.source import DialogueSource

TURNS = [("user", "2+3?\n\nin words"), ("assistant", "five")]
MESSAGES = [{"role": role, "content": content} for role, content in TURNS]
FORMS = {
    "messages": ({"turns": MESSAGES}, {"messages": "turns"}),
    "as JSON": ({"turns": json.dumps(MESSAGES)}, {"messages": "turns"}),
    "a struct of lists": (
        {"turns": {"role": [role for role, _ in TURNS], "content": [text for _, text in TURNS]}},
        {"messages": "turns"},
    ),
    "ShareGPT": (
        {"talk": [{"from": "human", "value": TURNS[0][1]}, {"from": "gpt", "value": "five"}]},
        {"conversations": "talk"},
    ),
    "more keys": ({"conversation": [{**one, "toxic": False} for one in MESSAGES]}, {"conversations": "conversation"}),
    "Alpaca": (
        {"ask": "2+3?", "more": "in words", "say": "five"},
        {"instruction": "ask", "input": "more", "output": "say"},
    ),
    "nested": ({"row": {"q": TURNS[0][1], "a": "five"}}, {"prompt": "row.q", "completion": "row.a"}),
    "by itself": ({"prompt": TURNS[0][1], "completion": "five", "other": 3}, {}),
}


def gathered(tmp_path, source):
    gather({"one": source}, tmp_path / "gathered", seed=0)
    return [json.loads(line) for line in (tmp_path / "gathered/one/00000.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_messages(tmp_path, form):
    row, columns = FORMS[form]
    write_lines(tmp_path / "rows.jsonl", [{**row, "gold": 5}])
    source = DialogueSource(
        path=str(tmp_path / "rows.jsonl"), columns={**columns, **({"answer": "gold"} if columns else {})}
    )
    (line,) = gathered(tmp_path, source)
    assert (line["messages"], line["fault"]) == (MESSAGES, None)
    assert line["text"] == "2+3?\n\nin words\n\nfive"
    assert line["answer"] == ("5" if columns else None)
    assert (line["origin_file"], line["origin_row"]) == ("rows.jsonl", 0)


def test_what_is_no_dialogue_is_kept_with_its_fault_and_what_has_no_column_is_counted(tmp_path):
    rows = [
        pair("a", "b", lang="en"),
        pair("a", 5, lang="en"),
        {"messages": [{"role": "bot", "content": "x"}], "lang": "en"},
        {"messages": [], "lang": "en"},
        {"lang": "en"},
        pair("un", "deux", lang="fr"),
    ]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    with path.open("a") as file:
        file.write("{broken\n")
    filters = ({"field": "lang", "equals": "en"},)
    source = DialogueSource(path=str(path), columns={"messages": "messages"}, filters=filters)
    (found,) = gather({"one": source}, tmp_path / "gathered", seed=0)
    lines = gathered(tmp_path, source)
    assert Counter(line["fault"] for line in lines) == Counter(
        [None, "content is not text", "unknown role", "no messages"]
    )
    assert found.unread == {"no column 'messages'": 1, "filtered": 1, "malformed JSON": 1}
    assert found.dialogues == 4


def test_read_takes_the_first_rows_and_parquet_is_read_by_its_columns(tmp_path):
    turns = pa.array([MESSAGES] * 5, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    pq.write_table(pa.table({"chat": turns, "number": range(5)}), tmp_path / "rows.parquet")
    source = DialogueSource(path=str(tmp_path / "rows.parquet"), columns={"messages": "chat"}, read=3)
    lines = gathered(tmp_path, source)
    assert [line["origin_row"] for line in lines] == [0, 1, 2]
    assert all(line["messages"] == MESSAGES for line in lines)
    assert len(gathered(tmp_path, source.model_copy(update={"read": 2}))) == 2  # read again as it is asked for now


def test_prompts_of_pairs_come_with_all_answers_that_the_data_carry(tmp_path):
    rows = [
        {"q": "2+3?", "good": [*MESSAGES[:1], {"role": "assistant", "content": "five"}], "bad": "six", "gold": "5"},
        {"q": "4?", "good": "four", "bad": [], "gold": None},
        {"q": None, "good": "four", "bad": "five", "gold": None},
    ]
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad", "answer": "gold"}
    path = write_lines(tmp_path / "rows.jsonl", rows)
    first, second, third = gathered(tmp_path, PairSource(path=str(path), columns=columns))
    assert (first["messages"], first["responses"]) == ([{"role": "user", "content": "2+3?"}], ["five", "six"])
    assert (first["answer"], second["answer"], second["responses"]) == ("5", None, ["four"])
    assert third["fault"] is not None


def test_the_guide_names_every_filter_and_config():
    guide = (Path(__file__).resolve().parents[3] / "docs" / "instruct-data.md").read_text()
    own = {name for name, kind in step_kinds().items() if kind.__module__.startswith("data_recipes.instruct.")}
    assert len(own) == 8
    assert not [name for name in [*own, *shipped_configs()] if f"`{name}`" not in guide]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": {"a b": {"path": "x"}}}, "cannot be a source's name"),
        ({"sources": {"a": {"path": "x", "columns": {"promt": "q"}}}}, "Did you mean 'prompt'"),
        ({"sources": {"a": {"path": "x", "columns": {"prompt": "q"}}}}, "make no dialogue; give messages"),
        ({"sources": {"a": {"path": "x", "template": "qa"}}}, "has `columns`"),
        ({"steps": [{"step": "judg"}]}, "no step 'judg'. Did you mean 'judge'"),
        ({"steps": [{"step": "tidy-text"}]}, "changes texts, but dialogues are given out as they came"),
        ({"steps": [{"step": "judge", "model": "m"}]}, "Give --endpoint URL"),
        ({"steps": [{"step": "drop-share", "column": "judge_men", "lowest": 0.1}]}, "no step before it has the column"),
        ({"steps": [{"step": "drop-share", "column": "turns"}]}, "give one of lowest and highest"),
        ({"steps": [{"step": "dialogue", "only": {"source": "b"}}]}, "only: no source 'b'"),
        ({"shares": {"math": 0.5, "general-en": 0.5}}, "no source is of the category 'math'"),
        ({"shares": {"general-en": 0.5}}, "shares add up to 0.5"),
        ({"dialogues": 5}, "give shares too"),
        ({"pairs": {}}, "neither sources nor dialogues"),
        ({"pairs": {"sources": {"a": {"path": "x"}}}}, "a source of the mixture is called 'a' too"),
        ({"endpoint": "localhost:80"}, "expected an address"),
    ],
)
def test_a_wrong_config_is_refused_with_what_is_right(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        checked_instruct({"sources": {"a": {"path": "x"}}, **changes}, "mine.yaml", tmp_path)


def test_the_published_shares_are_shipped(tmp_path):
    (name,) = shipped_configs()
    settings = load_instruct_config(name, endpoint="http://localhost:8000/v1").settings
    assert settings.dialogues == 8_200_000
    assert settings.shares == {"general-en": 0.39, "general-zh": 0.36, "math": 0.22, "code": 0.03}
    text = shipped_configs()[name].read_text()
    # With the steps that need a model, as a user would take the signs of comment away.
    values = yaml.safe_load(text.replace("\n  # - step: complexity", "\n  - step: complexity"))
    assert "complexity" in [step["step"] for step in values["steps"]]


HOSTILE = [
    '{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "b"}]}',
    '{"messages": 5}',
    '{"messages": [5]}',
    '{"messages": [[]]}',
    '{"messages": {"role": ["user"], "content": 7}}',
    '{"messages": "[not JSON"}',
    '{"messages": [{"role": {"a": 1}, "content": "x"}]}',
    '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": {"text": "y"}}]}',
    '{"messages": [{"role": "user"}, {"content": "x"}], "answer": 123456789012345678901234567890}',
]


@pytest.mark.parametrize("kind", [DialogueSource, PairSource])
@pytest.mark.parametrize("line", HOSTILE)
def test_hostile_rows_are_faults_and_not_crashes(tmp_path, kind, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{line}\n{json.dumps(pair('a', 'b'))}\n")
    bad, good = gathered(tmp_path, kind(path=str(path), columns={"messages": "messages"}))
    assert bad["fault"]
    assert good["fault"] is None


def test_responses_that_are_no_list_of_texts_are_a_fault(tmp_path):
    rows = [{"prompt": "2+3?", "responses": value} for value in ("abc", 5, [5], [["x"]], ["five", "six"])]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    lines = gathered(tmp_path, PairSource(path=str(path)))
    assert [bool(line["fault"]) for line in lines] == [True, True, True, True, False]
    assert lines[-1]["responses"] == ["five", "six"]
