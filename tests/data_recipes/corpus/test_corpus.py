"""The corpus: real text of this machine, a user's folder in many formats, held-out text apart, bad folders named."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_recipes.corpus.build import build_corpus
from data_recipes.corpus.folder import domain_of
from data_recipes.corpus.held_out import units
from data_recipes.corpus.installed import docstrings
from data_recipes.corpus.records import UnreadableFile, decode
from data_recipes.errors import DataError
from data_recipes.manifest import read_manifest, verify_files
from data_recipes.recipes.recipe import DOMAINS

WORDS = ("river", "stone", "paper", "light", "quiet", "early", "north", "engine", "letter", "garden", "winter")


def prose(seed: int, sentences: int = 40) -> str:
    """English sentences that differ from one seed to another."""
    step = [WORDS[(seed * 7 + index * (seed + 3)) % len(WORDS)] for index in range(sentences * 6)]
    return "\n".join(
        f"In the year {1000 + seed * sentences + i} the {' '.join(step[6 * i : 6 * i + 6])} was seen."
        for i in range(sentences)
    )


def chinese(seed: int) -> str:
    return "\n".join(
        f"公元{1000 + 40 * seed + line}年，第{line}个故事从{seed}号车站开始，人们都说那天的天气很好。"
        for line in range(40)
    )


def read(folder, side):
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted((folder / side).glob("*.jsonl"))
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    out = tmp_path_factory.mktemp("installed") / "corpus"
    build_corpus(out, seed=0, target_bytes=600_000, dialogues=50)
    return out


@pytest.fixture
def mixed(tmp_path):
    """A user's folder with most kinds of files, good and bad."""
    folder = tmp_path / "mine"
    (folder / "deep" / "er").mkdir(parents=True)
    for index in range(4):
        (folder / f"note{index}.txt").write_text(prose(index))
        (folder / "deep" / f"story{index}.md").write_text(chinese(index), encoding="utf-8")
    (folder / "deep" / "er" / "old.txt").write_bytes(chinese(9).encode("gb18030"))
    (folder / "windows.txt").write_bytes(prose(11).encode("utf-16"))
    (folder / "bom.txt").write_bytes(b"\xef\xbb\xbf" + prose(12).encode())
    (folder / "program.rs").write_text("".join(f"fn f{i}(x: u32) -> u32 {{ x * {i} + 1 }}\n" for i in range(60)))
    records = [json.dumps({"id": i, "content": prose(20 + i)}) for i in range(3)]
    (folder / "records.jsonl").write_text("\n".join(records))
    (folder / "more.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": prose(30)}).encode()))
    (folder / "most.jsonl.zst").write_bytes(
        zstandard.compress("\n".join([json.dumps({"text": prose(31)}), "{broken"]).encode())
    )
    pq.write_table(pa.table({"text": [prose(40), None, prose(41)], "n": [1, 2, 3]}), folder / "table.parquet")
    (folder / "picture.png").write_bytes(bytes(range(256)) * 20)
    (folder / "numbers.csv").write_text("a,b\n1,2\n")
    (folder / "half.parquet").write_bytes((folder / "table.parquet").read_bytes()[:100])
    (folder / "cut.jsonl.gz").write_bytes((folder / "more.jsonl.gz").read_bytes()[:60])
    (folder / "cut.txt.zst").write_bytes(zstandard.compress(prose(50).encode())[:-9])
    (folder / "nothing.md").write_text("")
    (folder / "no_text.jsonl").write_text('{"label": 3}\n')
    return folder


def test_installed_text_fills_every_domain_and_verifies(installed):
    manifest = read_manifest(installed, kind="corpus")
    assert verify_files(installed) == []
    assert manifest["substitutes"] == {}
    for domain in DOMAINS:
        counts = manifest["counts"]["domains"][domain]
        assert counts["train"]["bytes"] > 10_000
        assert counts["heldout"]["bytes"] > 1_000
    assert manifest["counts"]["domains"]["code"]["origins"].keys() <= {"python", "packages"}
    assert abs(sum(c["train"]["bytes"] for c in manifest["counts"]["domains"].values()) / 600_000 - 1) < 0.2


def test_heldout_text_is_nowhere_in_training_text(installed):
    train, heldout = read(installed, "train"), read(installed, "heldout")
    trained = {unit for documents in train.values() for document in documents for unit in units(document["text"])}
    whole = {document["text"] for documents in train.values() for document in documents}
    for domain, documents in heldout.items():
        assert not whole & {document["text"] for document in documents}
        if domain in ("math", "instruction-synthetic"):
            continue  # apart by operands: tests of synthesis
        pieces = [unit for document in documents for unit in units(document["text"])]
        shared = sum(len(unit) for unit in pieces if unit in trained)
        assert shared < 0.25 * sum(map(len, pieces)), domain


def test_same_machine_and_seed_give_the_same_bytes(tmp_path):
    first = build_corpus(tmp_path / "a", seed=3, target_bytes=150_000, dialogues=10)
    again = build_corpus(tmp_path / "b", seed=3, target_bytes=150_000, dialogues=10)
    other = build_corpus(tmp_path / "c", seed=4, target_bytes=150_000, dialogues=10)
    assert first["fingerprint"] == again["fingerprint"] != other["fingerprint"]


def test_without_chinese_text_on_the_machine_prose_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("data_recipes.corpus.installed.chinese_documents", lambda **options: iter(()))
    manifest = build_corpus(tmp_path / "out", seed=0, target_bytes=300_000, dialogues=5)
    counts = manifest["counts"]["domains"]["web-zh"]
    assert counts["origins"].keys() == {"generated"}
    assert counts["train"]["bytes"] > 0.8 * 300_000 * 1_000_000 / 11_400_000
    assert counts["heldout"]["bytes"] > 1_000


def test_a_users_folder_is_read_in_every_format(mixed, tmp_path):
    manifest = build_corpus(tmp_path / "out", corpus=mixed, target_bytes=300_000, dialogues=10)
    train, heldout = read(tmp_path / "out", "train"), read(tmp_path / "out", "heldout")
    text = "\n".join(
        document["text"] for side in (train, heldout) for documents in side.values() for document in documents
    )
    for expected in (prose(0), prose(11), prose(12), prose(20), prose(30), prose(31), prose(40), prose(41)):
        assert expected.splitlines()[0] in text
    assert chinese(9).splitlines()[3] in text
    assert {document["language"] for document in train["web-zh"]} == {"zh"}
    assert "fn f1(" in train["code"][0]["text"]
    assert train["math"]
    assert set(heldout) == set(train)
    reasons = {entry["file"]: entry["reason"] for entry in manifest["skipped"]}
    assert set(reasons) == {
        "picture.png",
        "numbers.csv",
        "half.parquet",
        "cut.jsonl.gz",
        "cut.txt.zst",
        "nothing.md",
        "no_text.jsonl",
        "most.jsonl.zst",
    }
    assert reasons["picture.png"] == "binary"
    assert reasons["nothing.md"] == "empty"
    assert "line 2: malformed JSON" in reasons["most.jsonl.zst"]
    assert "expected one of text" in reasons["no_text.jsonl"]


def test_missing_domains_name_their_substitute(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for index in range(5):
        (folder / f"{index}.txt").write_text(prose(index))
    manifest = build_corpus(tmp_path / "out", corpus=folder, target_bytes=100_000, dialogues=10)
    assert manifest["substitutes"] == {
        "web-zh": "web-en",
        "code": "web-en",
        "books-papers-encyclopedia": "web-en",
    }
    assert set(read(tmp_path / "out", "train")) == {"web-en", "math", "instruction-synthetic"}


def test_one_file_alone_still_gives_heldout_text(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "only.txt").write_text(prose(1))
    build_corpus(tmp_path / "out", corpus=tmp_path / "mine", target_bytes=100_000, dialogues=10)
    train, heldout = (read(tmp_path / "out", side)["web-en"] for side in ("train", "heldout"))
    assert train[0]["text"] + "\n" + heldout[0]["text"] == prose(1)


def test_users_folder_does_not_depend_on_its_place(mixed, tmp_path):
    import shutil

    shutil.copytree(mixed, tmp_path / "elsewhere")
    one = build_corpus(tmp_path / "a", corpus=mixed, target_bytes=100_000, dialogues=10)
    two = build_corpus(tmp_path / "b", corpus=tmp_path / "elsewhere", target_bytes=100_000, dialogues=10)
    assert one["fingerprint"] == two["fingerprint"]


def test_folders_without_text_are_refused_with_the_reason(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        build_corpus(tmp_path / "out", corpus=tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        build_corpus(tmp_path / "out", corpus=tmp_path / "empty")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match="expected a folder"):
        build_corpus(tmp_path / "out", corpus=tmp_path / "file.txt")
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "a.bin").write_bytes(os.urandom(3000))
    with pytest.raises(DataError, match=r"no readable text in it \(a\.bin: (binary|neither)"):
        build_corpus(tmp_path / "out", corpus=tmp_path / "binary")
    assert not (tmp_path / "out").exists()


def test_a_named_column_is_used_and_missed_by_name(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = [{"text": "a label", "reply": prose(index)} for index in range(4)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build_corpus(tmp_path / "out", corpus=folder, text_column="reply", target_bytes=50_000, dialogues=5)
    assert "In the year" in read(tmp_path / "out", "train")["web-en"][0]["text"]
    with pytest.raises(DataError, match="expected 'answer'"):
        build_corpus(tmp_path / "no", corpus=folder, text_column="answer", target_bytes=50_000, dialogues=5)


def test_copies_are_kept_once_and_the_folder_says_of_what_they_are_copies(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    longer = prose(1) + "\nOne more line that was never seen before in this text."
    texts = {"a": prose(1), "b": prose(1), "c": longer, "d": prose(2), "e": prose(3), "f": chinese(4)}
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    manifest = build_corpus(out, corpus=folder, target_bytes=100_000, dialogues=10)
    both = [read(out, side)[domain] for side in ("train", "heldout") for domain in ("web-en", "web-zh")]
    found = "\n".join(document["text"] for documents in both for document in documents)
    assert [found.count(prose(seed).splitlines()[0]) for seed in (1, 2, 3)] == [1, 1, 1]
    assert "One more line" in found
    assert manifest["counts"]["dropped"] == {
        "reading": 0,
        "exact-duplicates": 1,
        "near-duplicates": 1,
        "near_heldout": manifest["counts"]["dropped"]["near_heldout"],
    }
    summary = json.loads((out / "cleaning" / "summary.json").read_text())
    assert (summary["documents"], summary["kept_documents"]) == (6, 4)
    dropped = pq.read_table(out / "cleaning" / "dropped").to_pylist()
    assert {row["step"] for row in dropped} == {"exact-duplicates", "near-duplicates"}
    assert [row["text"] for row in dropped] == [prose(1)] * 2
    assert verify_files(out) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
def test_encodings_are_told_apart(encoding):
    text = f"{chinese(1)}\nplain English too, in one file: 12.5 %"
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" * 9, bytes(range(128, 256)) * 8, b"\x01\x02\x03\x04text" * 50]
)
def test_binary_content_is_not_taken_for_text(content):
    with pytest.raises(UnreadableFile):
        decode(content)


@pytest.mark.parametrize(
    ("text", "code_path", "domain"),
    [
        (prose(1), None, "web-en"),
        (chinese(1), None, "web-zh"),
        (prose(1, 600), None, "books-papers-encyclopedia"),
        (r"Let $\frac{a}{b} \leq \sqrt{c}$ and $\sum_i x_i = \int f$. " * 5, None, "math"),
        (chinese(1), "main.py", "code"),
    ],
)
def test_domains_by_kind_of_file_and_script(text, code_path, domain):
    assert domain_of(text, code_path=code_path) == domain


SOURCE = '''# a comment
"""Module."""

class A:
    r"""Class \\d."""

    def f(
        self,
    ) -> int:
        """Method."""
        x = """not one"""
        return x
'''


def test_docstrings_are_found_and_other_strings_are_not():
    assert list(docstrings(SOURCE)) == [("", "Module."), ("A", "Class \\d."), ("f", "Method.")]


def test_json_of_records_is_read_and_json_of_settings_is_code(tmp_path):
    from data_recipes.corpus.records import read_records

    records = [{"id": number, "content": prose(40 + number)} for number in range(3)]
    (tmp_path / "array.json").write_text(json.dumps(records, indent=1))
    (tmp_path / "lines.json.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    (tmp_path / "package.json").write_text(json.dumps({"name": "a", "version": "1"}, indent=2))
    read = {path.name: list(read_records(path, text_column=None, limit=10**6)) for path in tmp_path.iterdir()}
    for name in ("array.json", "lines.json.gz"):
        assert [(record["row"], record["text"]) for record in read[name]] == [
            (row, record["content"]) for row, record in enumerate(records)
        ]
    assert read["package.json"] == [{"text": (tmp_path / "package.json").read_text()}]
