"""`eval tokenizer`: bytes a token are those counted by hand, beside Table 2, and bad input is one message."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from eval.errors import EvalError
from eval.tokenizers import RESULT, Text, draw, measure, sheet_of
from yulanmini import cli


def write_tokenizer(folder: Path, merges: list[tuple[str, str]]) -> Path:
    """Bytes, and the merges given: what a text costs can be counted by hand. A line break is a token by itself."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(["<unk>", *alphabet, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}'
    )
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    (folder / "web-zh").mkdir(parents=True)
    (folder / "web-zh" / "a.txt").write_text("中文")  # 6 bytes
    (folder / "web-zh" / "b.txt").write_text("中")  # 3 bytes
    (folder / "code.jsonl").write_text('{"text": "abab"}\n{"text": "abc"}\n')
    return folder


def test_bytes_a_token_are_those_counted_by_hand(text: Path, tmp_path: Path) -> None:
    plain = write_tokenizer(tmp_path / "plain", [])
    merging = write_tokenizer(tmp_path / "merging", [("a", "b")])
    one, other = measure([str(plain), str(merging)], Text.read(text, bytes_per_domain=1000))
    assert one.bytes_per_token == {"code": 1.0, "web-zh": 1.0}
    assert other.bytes_per_token == {"code": 7 / 4, "web-zh": 1.0}
    assert other.tokens == {"code": 4, "web-zh": 9}
    assert (one.name, one.vocabulary, one.unknown) == ("plain", 257, {"code": 0, "web-zh": 0})
    assert one.fingerprint != other.fingerprint


def test_the_sheet_stands_beside_table_2(text: Path, tmp_path: Path) -> None:
    found = measure([str(write_tokenizer(tmp_path / "mine", []))], Text.read(text, bytes_per_domain=1000))
    sheet = sheet_of(found)
    rows = {row[0]: row[1:] for row in sheet.rows}
    assert sheet.headings == ["tokenizer", "vocabulary", "code", "web-zh"]
    assert rows["YuLan-Mini"] == ["99,000", "3.033", "4.147"]
    assert rows["mine"] == ["257", "1.000", "1.000"]
    assert draw(found) == draw(found)
    assert ">YuLan-Mini (Table 2)<" in draw(found)


def test_text_that_a_tokenizer_does_not_know_is_told(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "abab": 1, "abc": 2}, unk_token="<unk>"))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}'
    )
    found = measure([str(folder)], Text.read(text, bytes_per_domain=1000))
    assert found[0].unknown == {"code": 0, "web-zh": 2}
    assert "words does not know some text: unknown tokens, web-zh 100.00%" in "\n".join(sheet_of(found).notes)


def test_a_special_token_in_a_text_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("<unk>")
    (found,) = measure([str(write_tokenizer(tmp_path / "t", []))], Text.read(tmp_path / "a.txt", bytes_per_domain=9))
    assert (found.tokens, found.unknown) == ({"a": 5}, {"a": 0})


def test_the_same_text_is_read_whatever_the_layout(tmp_path: Path) -> None:
    """Held-out text of a corpus folder; the limit falls on whole characters."""
    (tmp_path / "heldout").mkdir()
    (tmp_path / "heldout" / "web-zh.jsonl").write_text(json.dumps({"text": "中文中"}) + "\n")
    (tmp_path / "train.txt").write_text("not read")
    assert Text.read(tmp_path, bytes_per_domain=8).texts == {"web-zh": ["中文"]}
    assert Text.read(tmp_path / "train.txt", bytes_per_domain=3).texts == {"train": ["not"]}


def test_names_stay_apart(tmp_path: Path, text: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    names = [str(write_tokenizer(tmp_path / place / "tok", [])) for place in ("a", "b")]
    assert [one.name for one in measure(names, Text.read(text, bytes_per_domain=10))] == names


def test_what_is_no_tokenizer_is_refused(tmp_path: Path, text: Path) -> None:
    read = Text.read(text, bytes_per_domain=10)
    broken = write_tokenizer(tmp_path / "broken", [])
    (broken / "tokenizer.json").write_text("{")
    (tmp_path / "file").write_text("")
    for name, message in (
        ("./nowhere", "no such folder"),
        (str(broken), "its tokenizer cannot be"),
        (str(text), "its tokenizer cannot be"),
        (str(tmp_path / "file"), "a file, expected the folder"),
        ("nobody/nothing", "its tokenizer cannot be loaded"),
    ):
        with pytest.raises(EvalError, match=message):
            measure([name], read)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["yulanmini", "eval", "tokenizer", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


def test_the_command_writes_numbers_table_and_figure(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, out = write_tokenizer(tmp_path / "mine", []), tmp_path / "out"
    options = (mine, "--text", text, "--out", out, "--json")
    assert call(monkeypatch, *options, "--dry-run") == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == {"code": 7, "web-zh": 9}
    assert not out.exists()
    for _ in range(2):  # the second time over the first
        assert call(monkeypatch, *options) == 0
        printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / RESULT).read_text())
    assert {path.name for path in out.iterdir()} == {"claim.json", RESULT, "tokenizers.md", "tokenizers.svg"}
    assert "| **mine** |" in (out / "tokenizers.md").read_text()
    shutil.copy(text / "code.jsonl", text / "more.jsonl")
    assert call(monkeypatch, *options) == 2
    assert "made from something else" in capsys.readouterr().err
    assert call(monkeypatch, mine, "--text", tmp_path / "absent") == 2
    assert capsys.readouterr().err.startswith("error: ")
