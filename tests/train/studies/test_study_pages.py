"""Every number of the studies' pages is from the committed results: the templates have none of their own."""

import json
import re
from pathlib import Path

import pytest

from train.studies.pages import TEMPLATES, between, change, docs_pages, share, verdict

DOCS = Path(__file__).parents[3] / "docs"
# What is a name or a place in the report, and no result of ours.
NAMES = r"(Figures?|Tables?|Sections?) \d+([–-]\d+)?((, | and )\d+)*|1-sqrt|95 %|YuLan-Mini-2\.4B|2\.42B|1\.08T|4K|28K"


@pytest.mark.parametrize("page", sorted((DOCS / "studies").glob("*.md")), ids=lambda page: page.name)
def test_a_page_is_what_its_template_makes_of_the_committed_result(page: Path) -> None:
    assert page.read_text() == docs_pages(DOCS)[page]


def test_every_template_has_its_page() -> None:
    assert {page.name for page in docs_pages(DOCS)} == {page.name for page in (DOCS / "studies").glob("*.md")}
    assert len(docs_pages(DOCS)) == len(list(TEMPLATES.glob("*.jinja")))


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.jinja")), ids=lambda path: path.name)
def test_a_template_has_no_number_of_its_own(template: Path) -> None:
    text = re.sub(
        r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|```.*?```|`[^`]*`|\]\([^)]*\)", "", template.read_text(), flags=re.S
    )
    assert re.findall(r".*\d.*", re.sub(NAMES, "", text)) == []


def test_numbers_have_the_same_form_in_all_pages() -> None:
    interval = {"value": -0.0123, "low": -0.02, "high": -0.004, "count": 5}
    assert between(interval, 3) == "-0.012 (-0.020 to -0.004)"
    assert change({**interval, "value": 0.01, "low": -0.01, "high": 0.03}) == "+0.010 (-0.010 to +0.030)"
    assert share({"value": 0.825, "low": 0.7, "high": 0.9, "count": 40}) == "82 % (70 to 90 %)"
    assert verdict(interval, "lower", "higher") == "lower"
    assert verdict({**interval, "high": 0.1}, "lower", "higher") == "not told apart"
    assert json.dumps(change({"value": 1.0, "low": None, "high": None})) == '"+1.000"'
