"""`data plan --online`: bytes of the files that each entry selects, and who lets us in, from a Hub on this machine."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_text import make_documents, write_jsonl

from data_recipes.forecast.answer import as_json
from data_recipes.forecast.forecast import forecast
from data_recipes.forecast.sights import look_on_hub
from data_recipes.packing.request import BuildRequest, load_recipes
from data_recipes.recipes.source import resolve_source


def parquet(domain: str, count: int) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": make_documents(domain, count)}), sink)
    return sink.getvalue().to_pybytes()


CARD = b"""---
configs:
- config_name: small
  data_files: [{split: train, path: small/*.parquet}, {split: test, path: small/test/*.parquet}]
- config_name: large
  data_files: large/*.parquet
---
"""
WEB = {
    "README.md": CARD,
    "small/0.parquet": parquet("web-en", 40),
    "small/1.parquet": parquet("web-en", 60),
    "small/test/0.parquet": parquet("web-en", 30),
    "large/0.parquet": parquet("web-en", 2000),
}
CODE = {"scored/score_2/a.jsonl": b'{"text": "x = 1"}\n' * 50, "scored/score_3/b.jsonl": b'{"text": "y"}\n' * 900}


@pytest.fixture
def recipe(hub, tmp_path) -> Path:
    hub.put("dataset", "a/web", WEB)
    hub.put("dataset", "a/code", CODE)
    hub.put("dataset", "a/script", {"script.py": b"import os\n", "data/train-0.jsonl": b'{"text": "z"}\n' * 70})
    hub.put("dataset", "a/terms", CODE, gated="manual")
    hub.put("dataset", "a/new", CODE)
    hub.move("dataset", "a/old", "a/new")
    write_jsonl(tmp_path / "mine.jsonl", make_documents("web-zh", 100))
    two = ["scored/score_2/*.jsonl"]
    sources = {
        "config": {"hub": "a/web", "config": "small"},
        "files": {"hub": "a/code", "data_files": two},
        "script": {"hub": "a/script", "access": "script-based", "data_files": ["data/train-*.jsonl"]},
        "terms": {"hub": "a/terms", "access": "gated", "data_files": two},
        "moved": {"hub": "a/old", "data_files": two},
        "gone": {"hub": "a/gone"},
        "renamed": {"hub": "a/code", "data_files": ["scored/score_9/*.jsonl"]},
        "mine": {"path": "mine.jsonl"},
    }
    subsets = [{"name": name, "tokens": 1000, "domain": "code", "source": entry} for name, entry in sources.items()]
    path = tmp_path / "mixed.yaml"
    path.write_text(yaml.safe_dump({"name": "mixed", "context_length": 64, "subsets": subsets}))
    return path


def answer_of(recipe: Path) -> dict[str, dict]:
    asked, before = load_recipes([str(recipe)], recipe.parent / "data")
    sources = [resolve_source(one.source, where=one.name) for one in asked[0].subsets]
    sights = look_on_hub(sources, progress=False)
    found = as_json(forecast(BuildRequest(asked, recipe.parent / "data", before=before), sights=sights), asked_hub=True)
    return {one["subsets"][0]: one for one in found["sources"]} | {"answer": found}


def test_bytes_are_those_of_the_selected_files_and_access_is_told(hub, recipe):
    found = answer_of(recipe)
    answer = found.pop("answer")
    states = {name: one["state"] for name, one in found.items()}
    assert states == {
        "config": "readable",
        "files": "readable",
        "script": "readable",
        "terms": "gated",
        "moved": "moved",
        "gone": "gone",
        "renamed": "no files",
        "mine": "readable",
    }
    code = len(CODE["scored/score_2/a.jsonl"])
    assert {name: (one["files"], one["selected_bytes"]) for name, one in found.items()} == {
        "config": (2, len(WEB["small/0.parquet"]) + len(WEB["small/1.parquet"])),
        "files": (1, code),
        "script": (1, 14 * 70),
        "terms": (1, code),
        "moved": (1, code),
        "gone": (None, None),
        "renamed": (None, None),
        "mine": (1, os.path.getsize(recipe.parent / "mine.jsonl")),
    }
    assert all(one["download_bytes"] <= one["selected_bytes"] for one in found.values() if one["selected_bytes"])
    assert found["mine"]["download_bytes"] == found["gone"]["download_bytes"] == 0
    first = " ".join(answer["to_do"])
    assert "a/gone" in first
    assert "accept its terms" in first
    assert "Hub was not asked" not in first
    # Nothing of the data was asked for: a card at most.
    files = [request.path for request in hub.requests if "/resolve/" in request.path]
    assert not [path for path in files if path.endswith((".parquet", ".jsonl"))]


def test_a_gated_dataset_whose_terms_are_accepted_is_readable(hub, recipe, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.repo("dataset", "a/terms").admitted.add(hub.user)
    assert answer_of(recipe)["terms"]["state"] == "readable"


def test_without_an_answer_the_plan_is_that_of_assumptions(hub, recipe):
    hub.down = True
    found = answer_of(recipe)
    assert found["config"]["state"] == "on the Hub"
    assert found["config"]["selected_bytes"] is None
    assert found["config"]["download_bytes"] > 0
    assert found["mine"]["selected_bytes"] == os.path.getsize(recipe.parent / "mine.jsonl")
    assert json.dumps(found["answer"])
