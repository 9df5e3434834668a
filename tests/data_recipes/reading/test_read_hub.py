"""Hub datasets through the command line, from a server on this machine: streamed, behind a script, downloaded."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from made_text import make_documents

from data_recipes.errors import DataError
from data_recipes.reading.files import SourceMissing
from data_recipes.reading.hub import check_columns
from data_recipes.recipes.source import Source
from data_recipes.rows.reader import PackedRows
from hub_cards.loopback.hub import LoopbackHub

TEXTS = make_documents("web-en", 300)
PROGRAM = "import sys\nfrom yulanmini.cli import main\nsys.exit(main())"


def lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text, "id": str(number)}) + "\n" for number, text in enumerate(texts)).encode()


def parquet(texts: list[str], **columns: list) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": texts, **columns}), stream)
    return stream.getvalue().to_pybytes()


DATASETS = {
    # One behind a loading script, one of plain Parquet, one by language.
    "a/scripted": {
        "README.md": b"---\nlicense: mit\n---\n",
        "scripted.py": b"raise RuntimeError('a loading script is never run')",
        "part/train/0.jsonl.zst": zstandard.compress(lines(TEXTS[:150])),
        "part/train/1.jsonl.zst": zstandard.compress(lines(TEXTS[150:])),
        "v2/train-0.json.gz": gzip.compress(lines(TEXTS)),
    },
    "a/plain": {
        "README.md": b"---\nlicense: mit\n---\n",
        "data/train-0.parquet": parquet(TEXTS, score=[float(number % 5) for number in range(300)]),
    },
    "a/languages": {"data/en-0.parquet": parquet(TEXTS), "data/zh-0.parquet": parquet(TEXTS[:9])},
}


@pytest.fixture(scope="module")
def served():
    with LoopbackHub() as hub:
        for name, files in DATASETS.items():
            hub.put("dataset", name, files)
        yield hub


def environment_of(home: Path, hub: LoopbackHub, *, offline: bool) -> dict[str, str]:
    switches = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), str(int(offline)))
    return {**hub.environment(home / "hf"), **switches, **({"HF_ENDPOINT": "http://127.0.0.1:9"} if offline else {})}


@pytest.fixture
def build(tmp_path, tokenizer_dir, served):
    def run(*subsets: str, out: str = "out", offline: bool = False, **options: str) -> subprocess.CompletedProcess:
        head = f"name: mix\ncontext_length: 64\ntokenizer: {tokenizer_dir}\nsubsets:\n"
        (tmp_path / "mix.yaml").write_text(head + "".join(f"  - {subset}\n" for subset in subsets))
        environment = environment_of(tmp_path, served, offline=offline)
        arguments = [f"--{key}={value}" for key, value in options.items()]
        command = [sys.executable, "-c", PROGRAM, "data", "build", "mix.yaml", "--out", out, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return run


SCRIPTED = "hub: a/scripted, access: script-based"


def test_files_behind_a_loading_script_are_read_directly(tmp_path, build, served):
    result = build(
        f"{{name: zst, tokens: 1280, source: {{{SCRIPTED}, data_files: part/train/*.jsonl.zst}}}}",
        f"{{name: gz, tokens: 640, source: {{{SCRIPTED}, data_files: v2/train-*.json.gz}}}}",
        "{name: plain, tokens: 640, source: {hub: a/plain, filters: [{field: score, min: 3}]}}",
        "{name: en, tokens: 640, source: {hub: a/languages, split: en, data_files: data/en-*.parquet}}",
    )
    assert result.returncode == 0, result.stderr
    built = PackedRows(tmp_path / "out" / "mix")
    assert [subset["rows"] for subset in built.manifest["subsets"]] == [20, 10, 10, 10]
    revisions = {served.head("dataset", name) for name in DATASETS}
    assert {source["revision"] for source in built.manifest["sources"]} == revisions
    for row in range(built.num_rows):
        subset = built.subset_names[built.rows(row, row + 1).subset_ids[0]]
        for piece in built.documents(row):
            assert subset != "plain" or piece["row"] % 5 >= 3


@pytest.mark.slow
def test_what_was_downloaded_of_a_scripted_dataset_is_read_offline(tmp_path, build, served):
    subset = f"{{name: zst, tokens: 1280, source: {{{SCRIPTED}, data_files: part/train/*.jsonl.zst}}}}"
    refused = build(subset, offline=True)
    assert refused.returncode == 2
    assert "a/scripted (part/train/*.jsonl.zst): cannot be loaded" in refused.stderr
    fetch = (
        "from huggingface_hub import snapshot_download\n"
        "snapshot_download('a/scripted', repo_type='dataset', allow_patterns='part/*')"
    )
    environment = environment_of(tmp_path, served, offline=False)
    subprocess.run([sys.executable, "-c", fetch], env=environment, check=True, timeout=60)
    for name, offline in (("online", False), ("offline", True)):
        result = build(subset, out=name, offline=offline)
        assert result.returncode == 0, result.stderr
    phases = [PackedRows(tmp_path / name / "mix") for name in ("online", "offline")]
    assert phases[0].fingerprint == phases[1].fingerprint
    # Of the same commit, but not all of it is here any more: never taken for the same contents.
    next((tmp_path / "hf").rglob("1.jsonl.zst")).unlink()
    result = build(subset, out="offline", offline=True)
    assert result.returncode == 2
    assert "part/train/1.jsonl" in result.stderr


def test_what_cannot_be_read_is_said_and_left_out_when_asked(tmp_path, build):
    subsets = (
        "{name: plain, tokens: 640, source: {hub: a/plain}}",
        "{name: scored, tokens: 640, source: {hub: a/plain, scorer: b/scorer, filters: [{field: math_score, min: 1}]}}",
        "{name: column, tokens: 640, source: {hub: a/plain, text: content}}",
        "{name: gone, tokens: 640, source: {hub: a/nothing}}",
        f"{{name: files, tokens: 640, source: {{{SCRIPTED}, data_files: v3/*.jsonl}}}}",
        f"{{name: formats, tokens: 640, source: {{{SCRIPTED}, data_files: '*'}}}}",
        f"{{name: layout, tokens: 640, source: {{{SCRIPTED}}}}}",
        "{name: script, tokens: 640, source: {hub: a/scripted}}",
    )
    result = build(*subsets, missing="skip")
    assert result.returncode == 0, result.stderr
    assert [subset["name"] for subset in PackedRows(tmp_path / "out" / "mix").manifest["subsets"]] == ["plain"]
    for message in (
        "needs the column 'math_score', the rows have text, score. Score its rows with b/scorer",
        "the text needs the column 'content', the rows have text, score.",
        "a/nothing: gone (not found, or private)",
        "a/scripted (v3/*.jsonl): no file there matches v3/*.jsonl",
        "the names do not have one format",
        "script-based, and the entry does not name its files",
        "Name its files: access: script-based, data_files: [...].",
    ):
        assert message in result.stderr
    assert result.stderr.count(" skipped (640 tokens): ") == 7


def test_a_sparse_column_is_enough():
    rows = [{"id": 1}, {"id": 2, "text": "x"}]
    check_columns(Source(hub="a/b"), rows)
    check_columns(Source(hub="a/b", template="{text}"), rows)
    with pytest.raises(SourceMissing, match=r"needs the column 'body', the rows have id, text"):
        check_columns(Source(hub="a/b", text="body"), rows)


def test_rows_to_decode_are_refused_at_once_without_their_tokenizer(tmp_path):
    source = Source(hub="a/b", text="input_ids", decode_with=str(tmp_path))
    with pytest.raises(DataError, match="cannot be loaded to decode"):
        check_columns(source, [{"input_ids": [1, 2]}])
