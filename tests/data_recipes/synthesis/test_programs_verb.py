"""`yulanmini data synthesize programs` as typed, what a recipe finds in its folder, and the guide's tables."""

import json
import re
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_recipes.recipes.source import Source
from data_recipes.synthesis.making import made_schema
from data_recipes.synthesis.programs.catalogue import TABLES, with_tables
from data_recipes.synthesis.programs.draw import all_kinds
from data_recipes.synthesis.programs.run import SCHEMA
from yulanmini.cli import main

GUIDE = Path(__file__).parents[3] / "docs" / "problems.md"
FIELDS = ("problem", "solution", "answer", "problem_kind", "level", "language")


@pytest.fixture
def run(monkeypatch, capsys):
    """What the verb prints on stdout; it must end well."""

    def typed(*arguments):
        monkeypatch.setattr(sys, "argv", ["yulanmini", "data", "synthesize", "programs", *map(str, arguments)])
        with suppress(SystemExit):
            main()
        captured = capsys.readouterr()
        assert "error: " not in captured.err
        return captured.out

    return typed


def test_the_verb_writes_what_it_is_asked_for_and_goes_on_where_it_was(tmp_path, run):
    command = (
        "--count",
        120,
        "--level",
        5,
        "--level",
        2,
        "--language",
        "zh",
        "--side",
        "heldout",
        "--seed",
        4,
        "--json",
    )
    result = json.loads(run("--out", tmp_path / "out", *command))
    assert result["counts"]["samples"] == 120
    rows = pq.read_table(tmp_path / "out" / "samples").to_pylist()
    assert {row["language"] for row in rows} == {"zh"}
    assert {row["level"] for row in rows} == {2, 5}
    assert (tmp_path / "out" / "report.html").is_file()
    assert json.loads(run("--out", tmp_path / "out", *command))["fingerprint"] == result["fingerprint"]
    source = Source(**result["recipe_source"])
    assert source.path == str(tmp_path / "out" / "samples")


def test_problems_of_named_kinds_and_a_dry_run_that_writes_nothing(tmp_path, run):
    command = ("--out", tmp_path / "out", "--count", 50, "--problem", "gcd", "--problem", "matrix-rank")
    assert json.loads(run(*command, "--dry-run", "--json"))["kinds"] == {"gcd": 0.5, "matrix-rank": 0.5}
    assert not (tmp_path / "out").exists()
    run(*command)
    assert set(pq.read_table(tmp_path / "out" / "samples")["problem_kind"].to_pylist()) == {"gcd", "matrix-rank"}


def test_samples_have_the_columns_of_all_kinds():
    others = made_schema(FIELDS)
    assert SCHEMA.names == [*others.names, "text"]
    assert all(SCHEMA.field(name).type == others.field(name).type for name in others.names if name != "level")


def test_the_guide_shows_every_kind_as_it_is():
    page = GUIDE.read_text(encoding="utf-8")
    assert with_tables(page) == page, f"python -m data_recipes.synthesis.programs.catalogue {GUIDE}"
    tables = "".join(found[0] for found in TABLES.finditer(page))
    assert set(re.findall(r"^\| `([\w-]+)` \|", tables, re.MULTILINE)) == set(all_kinds())
