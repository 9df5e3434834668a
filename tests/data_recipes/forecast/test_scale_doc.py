"""Every figure of docs/scale.md is computed again from where it says that it is from; no other is in the text."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from data_recipes.forecast.answer import amount, as_json, hours, tokens
from data_recipes.forecast.assumptions import FILE, all_figures
from data_recipes.forecast.forecast import forecast
from data_recipes.packing.request import BuildRequest, load_recipes
from data_recipes.recipes.yaml_schema import read_yaml

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "scale.md").read_text()
ROW = re.compile(r"^\| (?P<what>.+) \| (?P<figure>[^|]+) \| (?P<source>.*`.+`.*) \|$", re.MULTILINE)
TERM = re.compile(r"(?:`(?P<place>[^`]+)` (?P<pointer>[\w.\- ]*?[\w\-])|(?P<number>[\d.e]+))(?= [*/] |$)")
# Names of phases and contexts, the workers of all tables, and the assumed rates that rows are called by.
NAMES = {"1", "25", "26", "27", "28", "4", "64", "48", "1.08"}


@cache
def planned(command: str) -> dict[str, Any]:
    names, _, options = command.partition(" --")
    option, _, value = options.partition(" ")
    scale = float(value) if option == "scale" else None
    dropout = float(value) if option == "bpe-dropout" else 0.0
    asked, before = load_recipes(names.split(), Path("nowhere"), scale=scale)
    request = BuildRequest(asked, Path("nowhere"), before=before, dropout=dropout, workers=64)
    return as_json(forecast(request), asked_hub=False)


def value_of(place: str, pointer: str) -> float:
    if place == "assumptions":
        found: Any = read_yaml(FILE)
    elif place.startswith("plan "):
        found = planned(place.removeprefix("plan "))
    else:
        found = json.loads((ROOT / place).read_text())
    for key in pointer.split("."):
        found = found[key]
    return found


def computed(source: str) -> float:
    """`A / B * C`, from left to right."""
    result, sign, end = 1.0, "*", 0
    for term in TERM.finditer(source):
        assert term.start() == end, f"not understood: {source[end:]}"
        value = float(term["number"]) if term["number"] else value_of(term["place"], term["pointer"].strip())
        result = result * value if sign == "*" else result / value
        sign, end = source[term.end() + 1 : term.end() + 2], term.end() + 3
    assert end >= len(source), f"not understood: {source[end:]}"
    return result


def forms(value: float) -> set[str]:
    return {amount(value), tokens(value), hours(value), f"{value:.1%}", f"{value:,.0f}", f"{value:.3g}"}


def test_the_tables_hold_only_rows_with_a_source():
    rows = [line for line in DOC.splitlines() if line.startswith("| ") and "---" not in line and "| from |" not in line]
    assert len(rows) == len(ROW.findall(DOC)) > 30


@pytest.mark.parametrize(("what", "figure", "source"), ROW.findall(DOC))
def test_a_figure_is_what_its_source_has(what, figure, source):
    assert figure in forms(computed(source)), what


def test_the_text_has_no_figure_of_its_own():
    text = re.sub(r"^(    .*|\|.*)$", "", DOC, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`|\([\w\-/]+\.md\)", "", text)
    assert set(re.findall(r"\d[\d.,]*\d|\d", text)) <= NAMES


def test_rates_are_those_measured():
    measured = json.loads((ROOT / "benchmarks/results/build_rate.json").read_text())
    rates = all_figures()["megabytes_per_second"]
    for name, entry in measured.items():
        assert rates[name].value == entry["megabytes_per_core_second"]
        assert rates[name].basis == "measured"
