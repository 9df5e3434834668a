"""Rows become text: templates substitute, drop what is optional, and never read a row as a template."""

import pytest

from data_recipes.errors import DataError
from data_recipes.recipes.source import Filter, Source
from data_recipes.recipes.templates import MissingColumn, published_templates


def text_of(row, **source):
    return Source(hub="a/b", **source).renderer()(row)


def test_a_column_is_the_text():
    assert text_of({"text": "a {b}", "n": 1}) == "a {b}"
    assert text_of({"content": "x"}, text="content") == "x"
    assert text_of({"meta": {"body": "deep"}}, text="meta.body") == "deep"
    assert text_of({"text": None}) == ""


def test_fields_map_the_names_of_a_template_to_columns():
    row = {"query": "1+1?", "response": "2"}
    assert text_of(row, template="qa", fields={"question": "query", "answer": "response"}) == "1+1?\n\n2"


def test_an_optional_part_vanishes_without_leaving_a_gap():
    row = {"instruction": "Add.", "input": "", "output": "2"}
    assert text_of(row, template="alpaca") == "Add.\n\n2"
    assert text_of({**row, "input": "1 1"}, template="alpaca") == "Add.\n\n1 1\n\n2"
    assert text_of({"instruction": "Add.", "output": "2"}, template="alpaca") == "Add.\n\n2"


def test_blank_lines_of_the_row_itself_are_kept():
    row = {"question": "a\n\n\n\nb", "answer": "c"}
    assert text_of(row, template="qa") == "a\n\n\n\nb\n\nc"


def test_what_a_row_contains_is_never_a_template():
    row = {"question": "{answer} {{x}} {question.__class__}", "answer": "{question}"}
    assert text_of(row, template="qa") == "{answer} {{x}} {question.__class__}\n\n{question}"


def test_turns_are_joined_and_system_prompts_left_out():
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": " hi "},
        {"role": "assistant", "content": "hello"},
    ]
    assert text_of({"messages": messages}, template="messages") == "hi\n\nhello"
    as_columns = {"role": ["user", "assistant"], "content": ["hi", "hello"]}
    assert text_of({"messages": as_columns}, template="messages") == "hi\n\nhello"
    as_json = '[{"role": "user", "content": "hi"}]'
    assert text_of({"m": as_json}, template="messages", fields={"messages": "m"}) == "hi"
    shared = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert text_of({"conversations": shared}, template="sharegpt") == "q\n\na"


def test_turns_that_are_no_turns_are_bad_input():
    with pytest.raises(DataError, match="messages"):
        text_of({"messages": "not json"}, template="messages")
    with pytest.raises(DataError, match="messages"):
        text_of({"messages": [3]}, template="messages")
    with pytest.raises(MissingColumn):
        text_of({"messages": [{"content": "no role"}]}, template="messages")


def test_token_ids_are_decoded_with_the_tokenizer_that_made_them(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab={"<s>": 0, "a": 1, "b": 2, "Ġ": 3}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    source = Source(hub="a/b", text="input_ids", decode_with="tokenizer")
    source._folder = tmp_path
    render = source.renderer()
    assert render({"input_ids": [0, *tokenizer.encode("ab ba").ids]}) == "ab ba"
    assert render({"input_ids": []}) == ""
    with pytest.raises(MissingColumn):
        render({"ids": [1]})
    with pytest.raises(DataError, match="not a list of token ids"):
        render({"input_ids": ["a"]})
    missing = Source(hub="a/b", text="input_ids", decode_with=str(tmp_path / "none"))
    with pytest.raises(DataError, match="cannot be loaded"):
        missing.renderer()({"input_ids": [1]})
    with pytest.raises(ValueError, match="token ids"):
        Source(hub="a/b", decode_with="c/d")


def test_an_inline_template_joins_columns_and_keeps_braces():
    assert text_of({"title": "T", "body": "B"}, template="{title}: {{{body}}}") == "T: {B}"


def test_a_missing_column_names_the_nearest():
    with pytest.raises(MissingColumn, match="Did you mean 'contents'"):
        text_of({"contents": "x"}, text="content")
    with pytest.raises(MissingColumn) as caught:
        text_of({"question": "x"}, template="qa")
    assert caught.value.column == "answer"


def test_a_row_with_nothing_but_optional_parts_gives_no_text():
    assert text_of({"instruction": " ", "input": "x", "output": None}, template="alpaca") == ""


@pytest.mark.parametrize(
    "source",
    [
        {"template": "{x.__class__[0]}"},
        {"template": "{x"},
        {"template": "{}"},
        {"template": "qa", "fields": {"questions": "q"}},
        {"template": "qa", "text": "text"},
        {"fields": {"question": "q"}},
    ],
)
def test_unusable_templates_are_refused_before_any_row_is_read(source):
    with pytest.raises(ValueError, match=r"template|fields"):
        Source(hub="a/b", **source)


def test_every_template_says_what_it_is_and_renders():
    for name, template in published_templates().items():
        assert template.description
        if template.turns:
            column, role, content = template.turns
            row = {column: [{role: template.roles[0], content: "words"}]}
        else:
            row = dict.fromkeys(template.names, "words")
        assert "words" in text_of(row, template=name)


def test_filters_keep_by_bound_value_and_list_and_drop_what_they_cannot_see():
    row = {"score": 3.5, "lang": "Go", "meta": {"ok": True}}
    assert Filter(field="score", min=3.5, max=3.5).keeps(row)
    assert not Filter(field="score", min=4).keeps(row)
    assert not Filter(field="score", max=3).keeps(row)
    assert not Filter(field="score", min=0).keeps({"score": float("nan")})
    assert not Filter(field="score", min=0).keeps({"score": None})
    assert not Filter(field="score", min=0).keeps({})
    assert Filter(field="score", min=3).keeps({"score": "3"})
    assert Filter(field="lang", equals="Go").keeps(row)
    assert Filter(field="lang", one_of=("C", "Go")).keeps(row)
    assert Filter(field="lang", contains="o").keeps(row)
    assert Filter(field="meta.ok", equals=True).keeps(row)
    with pytest.raises(DataError, match="not a number"):
        Filter(field="lang", min=1).keeps(row)
