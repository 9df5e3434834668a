"""Which files of a folder are read, and what is refused because it would be read as something else."""

from pathlib import Path

import pytest
from made_text import make_documents, write_jsonl

from data_recipes.errors import DataError
from data_recipes.reading.files import list_files
from data_recipes.reading.opening import open_supply
from data_recipes.recipes.source import Source
from data_recipes.recipes.templates import Template

TEXTS = make_documents("web-en", 30)


def names(path: Path, **source) -> list[str]:
    return [file.name for file in list_files(Source(path=str(path), **source))]


def test_a_saved_dataset_is_read_without_its_descriptions(tmp_path):
    from datasets import Dataset

    Dataset.from_dict({"text": TEXTS}).save_to_disk(str(tmp_path / "saved"))
    assert {path.name for path in (tmp_path / "saved").iterdir()} >= {"state.json", "dataset_info.json"}
    assert names(tmp_path / "saved") == ["data-00000-of-00001.arrow"]


def test_rows_beside_plain_files_need_a_glob_that_says_which(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", TEXTS)
    (tmp_path / "README.md").write_text("What this is.")
    with pytest.raises(DataError, match=r"a mixture of files with rows \(a\.jsonl\).*\(README\.md\).*'\*\*/\*\.jsonl'"):
        names(tmp_path)
    assert names(tmp_path, glob="*.jsonl") == ["a.jsonl"]
    assert names(tmp_path, glob="**/*") == ["README.md", "a.jsonl"]


@pytest.mark.parametrize(
    "key",
    [{"text": "content"}, {"template": "{a}"}, {"filters": [{"field": "a", "min": 1}]}],
    ids=["text", "template", "filters"],
)
def test_keys_that_need_columns_are_refused_for_plain_files(tmp_path, key):
    (tmp_path / "records.csv").write_text("content\n" + "\n".join(TEXTS))
    with pytest.raises(DataError, match=r"need rows with columns, but records\.csv would be read as plain text"):
        names(tmp_path, **key)


def test_a_glob_that_is_no_pattern_is_answered_with_one(tmp_path):
    (tmp_path / "a.py").write_text("pass")
    with pytest.raises(DataError, match=r"'\*\*\.py' is not a pattern .*such as '\*\*/\*\.py'"):
        names(tmp_path, glob="**.py")


def test_what_turns_rows_into_text_is_part_of_a_sources_identity(tmp_path, monkeypatch):
    path = str(write_jsonl(tmp_path / "a.jsonl", TEXTS))

    def identity(**source) -> str:
        return open_supply(Source(path=path, **source)).fingerprint

    one = identity(text="ids", decode_with="a/tokenizer")
    assert len({identity(text="ids"), one, identity(text="ids", decode_with="b/tokenizer")}) == 3
    named = identity(template="qa")
    monkeypatch.setattr(
        "data_recipes.recipes.templates.published_templates",
        lambda: {"qa": Template("qa", "{question}: {answer}")},
    )
    assert identity(template="qa") != named
