"""The page of a cleaning run: its figures are the summary's, and whatever text it shows stays text."""

import json
import re

import pytest

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.pipeline.summary import read_summary
from yulanmini.report.cleaning import cleaning_page, draw_histogram, place
from yulanmini.report.funnel import funnel

CONFIG = checked_config({"steps": [{"step": "exact-duplicates"}], "most_lost_of_a_source": 1.0})
HOSTILE = "</script><script>alert(1)</script> <b>bold</b> {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cleaning")
    rows = [{"text": f"{HOSTILE} {n % 4}"} for n in range(10)] + [{"text": None}, {"text": ""}]
    for name in ("first", "second"):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    inputs = parse_inputs([str(folder / "first.jsonl"), str(folder / "second.jsonl")])
    clean(CONFIG, inputs, folder / "out", report=cleaning_page)
    page = (folder / "out" / "report.html").read_text()
    return read_summary(folder / "out"), page


def test_the_funnel_adds_up_to_the_documents(summary):
    figures, page = summary
    rows = funnel(figures)
    assert [row["dropped"] for row in rows] == [4, 16]
    assert figures["documents"] == figures["kept_documents"] + sum(row["dropped"] for row in rows) == 24
    assert dict(rows[0]["reasons"]) == {"null": 2, "empty": 2}
    assert re.search(r"4 of 24 documents of 2 sources were kept; the step exact-duplicates dropped the most, 16", page)


def test_texts_of_documents_stay_text(summary):
    _, page = summary
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page
    assert "{{ 7 * 7 }}" in page


def test_a_threshold_stands_between_the_bars_that_it_parts():
    edges = [1.0, 10.0, 100.0, 1000.0]
    assert [place(value, edges) for value in (0.5, 1, 10, 55, 5000)] == pytest.approx([0, 0, 1 / 3, 0.5, 1])
    found = {"edges": edges, "counts": [5, 0, 3], "limits": [10.0], "documents": 8, "quantiles": {"0.5": 9.0}}
    drawn = draw_histogram("words", found)
    assert drawn.count("<rect") == 3
    assert re.search(r'<line x1="110" x2="110"[^>]*class="limit"', drawn)
