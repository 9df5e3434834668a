"""Nothing is used twice unnoticed: recipes of one's own continue each other, and overlapping sources are named."""

import json
from pathlib import Path

import pytest
from made_text import make_documents, write_jsonl
from typer.testing import CliRunner

from data_recipes.errors import DataError
from data_recipes.packing.build import build_phases
from data_recipes.recipes.recipe import Filter, Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows
from yulanmini.commands.data import app


@pytest.fixture
def place(tmp_path, tokenizer_dir):
    """A folder with text and three recipes: base, next after base, and last (of longer rows) after next."""
    write_jsonl(tmp_path / "text" / "a.jsonl", make_documents("web-en", 600))
    write_jsonl(tmp_path / "text" / "b.jsonl", make_documents("code", 600))
    for name, after, length, files in (
        ("base", "", 64, "ab"),
        ("next", "after: base\n", 64, "a"),
        ("last", "after: next\n", 128, "ab"),
    ):
        subsets = "".join(
            f"  - {{name: {file}, tokens: 3200, source: {{path: text/{file}.jsonl}}}}\n" for file in files
        )
        (tmp_path / f"{name}.yaml").write_text(
            f"name: {name}\n{after}context_length: {length}\ntokenizer: {tokenizer_dir}\nsubsets:\n{subsets}"
        )
    return tmp_path


def build(place: Path, *names: str, out: str = "out", code: int = 0):
    arguments = ["build", *(str(place / f"{name}.yaml") for name in names), "--out", str(place / out)]
    result = CliRunner().invoke(app, [*arguments, "--store", str(place / "store"), "--workers", "1"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code
    return result


def tokens_of(folder: Path) -> set[tuple]:
    """Every token of the rows: file, row, place."""
    rows = PackedRows(folder)
    tables = json.loads((folder / "sources.json").read_text())
    pieces = (piece for row in range(rows.num_rows) for piece in rows.documents(row))
    return {
        (tables[piece["source"]]["files"][piece["file"]], piece["row"], token)
        for piece in pieces
        for token in range(piece["start"], piece["end"])
    }


def fingerprints(place: Path, out: str) -> dict[str, str]:
    return {name: PackedRows(place / out / name).fingerprint for name in ("base", "next", "last")}


def test_recipes_continue_each_other_in_one_command_or_in_several(place):
    for name in ("base", "next", "last"):
        build(place, name)
    drawn = [tokens_of(place / "out" / name) for name in ("base", "next", "last")]
    assert len(drawn[0] | drawn[1] | drawn[2]) == sum(map(len, drawn))
    build(place, "last", "next", "base", out="together")
    assert fingerprints(place, "together") == fingerprints(place, "out")
    # Alone, with nothing built: what the others draw is left out, as with a published phase.
    build(place, "last", out="alone")
    assert PackedRows(place / "alone" / "last").fingerprint == fingerprints(place, "out")["last"]
    assert not (place / "alone" / "base").exists()


def test_what_comes_after_something_unknown_or_built_otherwise_is_refused(place):
    (place / "next.yaml").write_text((place / "next.yaml").read_text().replace("after: base", "after: bass"))
    with pytest.raises(DataError, match=r"next: after 'bass': no such recipe is given .*\(bass\.yaml\)"):
        build(place, "next")
    (place / "next.yaml").write_text((place / "next.yaml").read_text().replace("after: bass", "after: last"))
    with pytest.raises(DataError, match="last, next: each comes after another of them"):
        build(place, "next", "last")
    (place / "next.yaml").write_text((place / "next.yaml").read_text().replace("after: last", "seed: 3\nafter: base"))
    build(place, "base")
    with pytest.raises(DataError, match=r"next comes after .*base, which was built with seed 0, not 3"):
        build(place, "next")


def test_two_commands_that_begin_the_same_source_say_so(place):
    (place / "next.yaml").write_text((place / "next.yaml").read_text().replace("after: base\n", ""))
    assert "both begin" not in build(place, "base").stderr
    messages = build(place, "next").stderr
    assert "next and base both begin at the first row of text/a.jsonl: rows are used twice" in messages
    assert "'after: base'" in messages


def test_subsets_that_read_the_same_documents_are_named(tmp_path, tokenizer_dir):
    folder = tmp_path / "text"
    write_jsonl(folder / "one" / "a.jsonl", make_documents("web-en", 80))
    write_jsonl(folder / "two" / "b.jsonl", make_documents("code", 90))
    everything = Source(path=str(folder), glob="**/*.jsonl")
    part = Source(path=str(folder), glob="two/*.jsonl")

    def built(name: str, *sources: Source, tokens: int) -> dict:
        subsets = tuple(Subset(name=f"s{n}", tokens=tokens, source=source) for n, source in enumerate(sources))
        recipe = Recipe(name=name, context_length=64, subsets=subsets)
        options = {"tokenizer": tokenizer_dir, "store": tmp_path / "store", "progress": False}
        return PackedRows(build_phases([recipe], tmp_path / "out", **options)[0]).manifest

    for packing_tokens in (64_000, 640):
        manifest = built(f"both-{packing_tokens}", everything, part, tokens=packing_tokens)
        (found,) = manifest["overlaps"]
        drawn = [set(), set()]
        rows = PackedRows(tmp_path / "out" / manifest["name"])
        batch = rows.rows(0, rows.num_rows)
        tables = json.loads((rows.folder / "sources.json").read_text())
        for row in range(rows.num_rows):
            for piece in rows.documents(row):
                name = Path(tables[piece["source"]]["files"][piece["file"]]).name
                drawn[batch.subset_ids[row]].add((name, piece["row"]))
        assert found == {"subsets": ["s0", "s1"], "files": 1, "documents": len(drawn[0] & drawn[1])}
    halves = [
        everything.model_copy(update={"filters": (Filter(field="id", **bound),)})
        for bound in ({"max": 40}, {"min": 41})
    ]
    assert built("halves", *halves, tokens=6400)["overlaps"] == []
    assert built("once", everything, everything, tokens=640)["overlaps"] == []
