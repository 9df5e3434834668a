"""Data sets in local folders: which files are read, and that no one else's rows come back."""

import json
from pathlib import Path

import pytest

from eval.errors import EvalError
from eval.harness.data_folder import describe_files, load_local


def lay_out(folder: Path, *texts: str, config: str = "main") -> Path:
    (folder / config).mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": text}) + "\n" for text in texts)
    (folder / config / "test.jsonl").write_text("".join(lines))
    describe_files(folder, {config: {"test": f"{config}/test.jsonl"}})
    return folder


def texts(folder: Path, config: str | None = "main") -> list[str]:
    return list(load_local(folder, config)["test"]["text"])


def test_two_folders_with_the_same_list_of_files_give_each_its_own_rows(tmp_path):
    first, second = lay_out(tmp_path / "a" / "o" / "n", "one"), lay_out(tmp_path / "b" / "o" / "n", "two")
    assert (texts(first), texts(second)) == (["one"], ["two"])


def test_a_file_that_changed_is_read_again(tmp_path):
    folder = lay_out(tmp_path, "before")
    assert texts(folder) == ["before"]
    lay_out(tmp_path, "after!")
    assert texts(folder) == ["after!"]


def test_all_forms_of_the_hubs_readme_are_understood(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "data").mkdir()
    for number in (0, 1):
        table = pyarrow.table({"text": [f"part {number}"]})
        pyarrow.parquet.write_table(table, tmp_path / "data" / f"test-{number}.parquet")
    readme = """---
license: mit
configs:
- config_name: glob
  data_files:
  - split: test
    path: data/test-*.parquet
- config_name: listed
  data_files:
  - {split: test, path: [data/test-1.parquet, data/test-0.parquet]}
- config_name: bare
  data_files: data/test-0.parquet
---
# A card
---
"""
    (tmp_path / "README.md").write_text(readme)
    assert texts(tmp_path, "glob") == ["part 0", "part 1"]
    assert texts(tmp_path, "listed") == ["part 1", "part 0"]
    assert list(load_local(tmp_path, "bare")["train"]["text"]) == ["part 0"]
    # None: the default one, or else the first.
    assert texts(tmp_path, None) == ["part 0", "part 1"]


def test_what_cannot_be_read_is_named(tmp_path):
    folder = lay_out(tmp_path, "one")
    with pytest.raises(EvalError, match=r"no configuration 'mian'\. Did you mean 'main'"):
        load_local(folder, "mian")
    with pytest.raises(EvalError, match=r"no file nowhere/\*\.csv"):
        load_local(folder, None, data_files={"test": "nowhere/*.csv"})
    for path in ("../secret.jsonl", "/etc/passwd"):
        with pytest.raises(EvalError, match="leads out of the data set's folder"):
            load_local(folder, None, data_files={"test": path})
    for text in ("no front matter", "---\nlicense: mit\n---\n", "---\nconfigs: [\n---\n"):
        (folder / "README.md").write_text(text)
        with pytest.raises(EvalError, match="expected the `configs` of a data set"):
            load_local(folder, "main")
    (folder / "README.md").unlink()
    with pytest.raises(EvalError, match="expected the `configs` of a data set"):
        load_local(folder, "main")


def test_reading_asks_no_one_even_where_there_is_a_network(tmp_path, monkeypatch):
    """`datasets.load_dataset` counts each load at the Hub, which takes seconds a data set where nothing answers."""
    import socket

    import datasets
    from huggingface_hub import constants

    asked = []
    for module in (datasets.config, constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address) or [])
    assert texts(lay_out(tmp_path, "one")) == ["one"]
    assert asked == []
