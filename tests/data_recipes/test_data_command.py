"""`yulanmini data`: the recipe of the documentation as written, published phases from a corpus folder, exit codes."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from made_text import make_documents, write_jsonl

from yulanmini.cli import main
from yulanmini.cli import run as run_yulanmini

RECIPE = """
name: my-anneal
context_length: 4096
tokenizer: tokenizer
seed: 7
subsets:
  - {name: code, tokens: 2_000_000, source: {path: corpus/code, glob: "**/*.py"}}
  - {name: prose, tokens: 3_000_000, source: {path: corpus/books.jsonl, text: content}, max_epochs: 2}
  - name: web
    tokens: 5_000_000
    source: {hub: HuggingFaceFW/fineweb-edu, config: sample-10BT, split: train, text: text}
"""


@pytest.fixture
def place(tmp_path, tokenizer_dir, monkeypatch) -> Path:
    """A folder with the recipe, its local sources and a tokenizer, as a user would have it."""
    (tmp_path / "my-anneal.yaml").write_text(RECIPE)
    (tmp_path / "tokenizer").symlink_to(tokenizer_dir)
    (tmp_path / "corpus" / "code" / "deep").mkdir(parents=True)
    for number, text in enumerate(make_documents("code", 80)):
        (tmp_path / "corpus" / "code" / ("deep" if number % 2 else "") / f"{number}.py").write_text(text)
    write_jsonl(tmp_path / "corpus" / "books.jsonl", make_documents("web-en", 900), column="content")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, monkeypatch, capsys) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["yulanmini", "data", *arguments])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def call(monkeypatch, capsys):
    return lambda *arguments: run(*arguments, monkeypatch=monkeypatch, capsys=capsys)


def test_the_documented_recipe_builds_verifies_and_traces(place, call):
    small = ("build", "my-anneal.yaml", "--out", "data", "--scale", "0.004", "--context-length", "128")
    code, _, err = call(*small)
    assert code == 2
    assert "1 of 3 subsets (50.0% of the tokens) cannot be read" in err
    assert "Traceback" not in err
    code, out, err = call(*small, "--missing", "skip", "--json", "--workers", "2")
    assert code == 0, err
    (phase,) = json.loads(out)["phases"]
    assert [subset["rows"] for subset in phase["subsets"]] == [62, 94]
    assert phase["missing"][0]["subset"] == "web"

    code, out, _ = call("trace", "data/my-anneal", "5", "--text", "--json")
    assert code == 0
    for document in json.loads(out)["documents"]:
        assert {"source", "file", "row", "start", "end", "text"} <= set(document)
        if document["source"].startswith("corpus/code"):
            text = (place / "corpus" / "code" / document["file"]).read_text()
        else:
            text = json.loads((place / "corpus" / "books.jsonl").read_text().splitlines()[document["row"]])["content"]
        assert document["text"] in text

    code, out, _ = call("trace", "data/my-anneal", "--step", "2", "--batch-size", "2", "--json")
    assert [row["row"] for row in json.loads(out)["rows"]] == [2, 3]
    code, out, _ = call("stats", "data/my-anneal", "--json")
    assert json.loads(out)["rows"] == phase["counts"]["rows"]
    assert call("verify", "data")[0] == 0
    shard = place / "data" / "my-anneal" / "rows-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-1])
    code, out, _ = call("verify", "data", "--json")
    assert code == 2
    assert json.loads(out)["sound"] is False


def test_a_shortfall_stops_before_anything_is_written(place, call):
    code, _, err = call("build", "my-anneal.yaml", "--out", "data", "--missing", "skip", "--context-length", "128")
    assert code == 2
    assert "not enough text, nothing was written" in err
    assert "prose" in err
    assert not (place / "data" / "my-anneal").exists()


def test_the_plan_and_the_dry_run_give_one_answer_and_refuse_what_the_build_refuses(place, call):
    options = ("my-anneal.yaml", "--out", "data", "--workers", "2", "--json")
    code, out, _ = call("build", *options, "--missing", "skip", "--dry-run")
    assert code == 0
    dry = json.loads(out)
    assert [entry["subset"] for entry in dry["missing"]] == ["web"], "not in the cache, and nobody may ask for it"
    code, out, err = call("plan", *options)
    assert code == 0
    assert "What stays unreadable" not in err
    plan = json.loads(out)
    assert {source["source"] for source in plan["sources"]} > {source["source"] for source in dry["sources"]}
    recipe = yaml.safe_load((place / "my-anneal.yaml").read_text())
    recipe["subsets"].pop()
    (place / "my-anneal.yaml").write_text(yaml.safe_dump(recipe))
    assert call("plan", *options)[1] == call("build", *options, "--dry-run")[1]
    # Nobody needs to have built what comes before, or to know it.
    (place / "my-anneal.yaml").write_text(yaml.safe_dump({**recipe, "after": "what-came-before"}))
    assert call("build", *options, "--dry-run")[0] == 2
    code, out, err = call("plan", *options)
    assert code == 0, err
    assert "what-came-before" in err
    assert not (place / "data").exists()


def test_published_phases_build_offline_from_a_corpus_folder(place, call):
    domains = ("web-en", "web-zh", "code")
    for number, domain in enumerate(
        ("web-en", "web-zh", "code", "math", "books-papers-encyclopedia", "instruction-synthetic")
    ):
        write_jsonl(place / "made" / "train" / f"{domain}.jsonl", make_documents(domains[number % 3], 300))
    options = ("--corpus", "made", "--tokenizer", "tokenizer", "--tokens", "12000", "--context-length", "32")
    code, out, err = call("build", "26", "27", *options, "--out", "data", "--json")
    assert code == 0, err
    phases = json.loads(out)["phases"]
    assert [(phase["phase"], phase["counts"]["rows"]) for phase in phases] == [(26, 54), (27, 54)]
    code, out, _ = call("build", "3", *options, "--out", "data", "--dry-run", "--json")
    assert code == 0
    assert sum(subset["rows"] for subset in json.loads(out)["subsets"]) == 375
    assert not (place / "data" / "phase-03").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "28", "--out", "x"), "no phase '28'"),
        (("build", "20-30", "--out", "x"), "expected a range within 1-27"),
        (("build", "my-anneal.yaml", "--out", "x", "--packing", "magic"), "expected one of concat, best_fit"),
        (("build", "my-anneal.yaml", "--out", "x", "--missing", "ignore"), "expected one of fail, skip, substitute"),
        (("build", "my-anneal.yaml", "--out", "x", "--workers", "0"), "--workers 0"),
        (("build", "7", "--out", "x", "--corpus", "corpus"), "no train/DOMAIN.jsonl"),
        (("build", "my-anneal.yaml", "--out", "x", "--tokenizer", "./nowhere"), "no such tokenizer folder"),
        (("verify", "nowhere"), "no such folder"),
        (("trace", "corpus", "0"), "not a finished folder"),
        (("stats", "corpus"), "not a finished folder"),
        (("publish", "corpus", "--out", "x"), "nothing that was finished is here"),
        (("publish", "nowhere", "--out", "corpus"), "corpus: holds other files"),
        (("stats", "nowhere", "--plot", "corpus"), "is a folder. Give the name of a file"),
        (("stats", "nowhere", "--plot", "x.jpg"), "ends in '.jpg', expected .svg"),
        (("stats", "nowhere", "--plot", "my-anneal.yaml/x.svg"), "my-anneal.yaml is a file, not a folder"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(place, call, arguments, message):
    code, _, err = call(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_full_disk_is_one_line_that_says_how_to_go_on(place, call, monkeypatch):
    import errno

    from data_recipes.packing import build as build_module

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build_module, "write_rows", full)
    arguments = ("build", "my-anneal.yaml", "--out", "data", "--scale", "0.004", "--context-length", "128")
    code, _, err = call(*arguments, "--missing", "skip")
    assert code == 2
    assert "error: data: No space left on device. Make room and give the same command again" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("phase", ["27", "26-4k"])
def test_an_exported_phase_is_built_from_own_text_without_the_phases_before_it(place, call, capsys, phase):
    with pytest.raises(SystemExit):
        run_yulanmini(["recipe", "export", phase])
    exported = capsys.readouterr().out
    assert exported.startswith("# To change this recipe")
    recipe = yaml.safe_load(exported)
    assert str(recipe["phase"]) in phase
    text = {"path": str(place / "corpus" / "books.jsonl"), "text": "content"}
    recipe["subsets"] = [{**subset, "source": text} for subset in recipe["subsets"]]
    (place / "recipes").mkdir()
    (place / "recipes" / "mine.yaml").write_text(yaml.safe_dump(recipe))
    small = ("--tokens", "20000", "--context-length", "64", "--tokenizer", "tokenizer", "--json", "--workers", "1")
    code, out, err = call("build", "recipes/mine.yaml", "--out", "data", *small)
    assert code == 0, err
    (built,) = json.loads(out)["phases"]
    manifest = json.loads((place / "data" / f"phase-{phase}" / "manifest.json").read_text())
    assert manifest["context_length"] == 64  # as asked for, not seven times as much
    assert sorted(path.name for path in (place / "data").glob("phase-*")) == [f"phase-{phase}"]
    assert len(built["subsets"]) == len(recipe["subsets"])
