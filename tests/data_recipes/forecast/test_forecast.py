"""The forecast of published phases and of own recipes, without a network; what a real build then writes."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from made_text import make_documents, write_jsonl

from data_recipes.errors import DataError
from data_recipes.forecast.answer import as_json
from data_recipes.forecast.forecast import forecast
from data_recipes.packing.build import build
from data_recipes.packing.request import BuildRequest, load_recipes
from data_recipes.recipes.recipe import load_recipe, published_recipes


def answer_for(names: list[str], place: Path, **options) -> dict:
    asked, before = load_recipes(names, place)
    return as_json(forecast(BuildRequest(asked, place, before=before), **options), asked_hub=False)


def test_all_mixes_are_forecast_with_their_published_tokens_in_less_than_a_second(tmp_path):
    begun = time.process_time()
    found = answer_for(["1-27"], tmp_path, rate=50.0)
    assert time.process_time() - begun < 1.0
    published = {recipe.key: recipe.tokens for recipe in published_recipes()}
    assert len(found["phases"]) == 28
    for phase in found["phases"]:
        # Rows are whole: less than half of one is rounded away.
        assert abs(phase["tokens"] - published[phase["recipe"]]) <= phase["context_length"] / 2
    totals = found["totals"]
    assert totals["drawn"] == sum(phase["tokens"] for phase in found["phases"])
    assert totals["drawn"] == sum(source["tokens"] for source in found["sources"])
    assert totals["row_bytes"] > 4 * totals["drawn"]
    assert totals["store_bytes"] > 4 * totals["tokenised"], "99,000 ids do not fit two bytes"
    assert found["time"]["seconds"] == pytest.approx(totals["text_bytes"] / (50.0e6 * found["time"]["workers"]), abs=1)
    by_state: dict[str, int] = {}
    for source in found["sources"]:
        by_state[source["state"]] = by_state.get(source["state"], 0) + source["tokens"]
    assert {"on the Hub", "gated", "off-hub", "not-public", "ids-only", "script-based", "after scoring"} == set(
        by_state
    )
    assert all(source["download_bytes"] == 0 for source in found["sources"] if source["state"] == "not-public")
    assert {figure["basis"] for figure in found["figures"].values()} == {"published", "assumption"}


def test_the_long_context_phases_look_ahead_and_the_others_do_not(tmp_path):
    short, long = answer_for(["25"], tmp_path), answer_for(["26"], tmp_path)
    assert [phase["looks_ahead"] for phase in short["phases"] + long["phases"]] == [0, 8]
    for source in (one for one in long["sources"] if len(one["subsets"]) == 1):
        most = 9 * source["tokens"]
        assert source["tokenised_tokens"] >= min(most, source["source_tokens"] or most)
    # A published phase alone counts its own tokens, and says what a build would tokenise for those before it.
    assert long["totals"]["drawn"] == sum(phase["tokens"] for phase in long["phases"])
    assert long["before"]["phases"] == [str(phase) for phase in range(1, 26)]
    drawn = sum(load_recipe(str(phase)).tokens for phase in range(1, 26))
    shared = long["before"]["drawn_tokens"]
    assert 0 < shared < drawn, "of the phases before only what their sources share with this one"
    assert "26-4k" not in long["before"]["phases"]


def test_an_epoch_of_a_source_whose_card_tells_its_size(tmp_path):
    found = answer_for(["1-27"], tmp_path)
    web = next(source for source in found["sources"] if source["source"] == "HuggingFaceFW/fineweb-edu (default)")
    # Phase 26 of 4K is a branch: phase 26 begins where 25 ends.
    subsets = [subset for recipe in published_recipes() if recipe.variant is None for subset in recipe.subsets]
    drawn = sum(subset.tokens for subset in subsets if subset.source == "fineweb-edu")
    assert web["source_tokens"] == 1_300_000_000_000
    assert web["epochs"] == pytest.approx(drawn / 1.3e12, rel=1e-3)


@pytest.fixture
def recipe(tmp_path, tokenizer_dir) -> Path:
    (tmp_path / "code").mkdir()
    for number, text in enumerate(make_documents("code", 400)):
        (tmp_path / "code" / f"{number}.py").write_text(text)
    write_jsonl(tmp_path / "web.jsonl", make_documents("web-en", 4000))
    write_jsonl(tmp_path / "zh.jsonl", make_documents("web-zh", 4000))
    subsets = [
        {"name": "code", "tokens": 30_000, "domain": "code", "source": {"path": "code", "glob": "**/*.py"}},
        {"name": "web", "tokens": 400_000, "domain": "web-en", "source": {"path": "web.jsonl"}},
        {"name": "zh", "tokens": 200_000, "domain": "web-zh", "source": {"path": "zh.jsonl"}},
    ]
    path = tmp_path / "mine.yaml"
    content = {"name": "mine", "context_length": 256, "tokenizer": str(tokenizer_dir), "subsets": subsets}
    path.write_text(yaml.safe_dump(content))
    return path


def size_of(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


def test_store_and_rows_are_as_large_as_forecast_from_a_store_that_is_there(tmp_path, recipe):
    store = tmp_path / "store"
    small, _ = load_recipes([str(recipe)], tmp_path / "small", scale=0.05)
    build(BuildRequest(small, tmp_path / "small", store=store, progress=False))
    asked, _ = load_recipes([str(recipe)], tmp_path / "data")
    request = BuildRequest(asked, tmp_path / "data", store=store, progress=False)
    found = as_json(forecast(request), asked_hub=False)
    assert "measured" in {figure["basis"] for figure in found["figures"].values()}
    (folder,) = build(request)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert found["totals"]["drawn"] == manifest["counts"]["tokens"]
    assert found["phases"][0]["rows"] == manifest["counts"]["rows"]
    assert found["bytes_per_token_id"] == 2
    assert found["totals"]["row_bytes"] == pytest.approx(size_of(folder, "rows-*.arrow"), rel=0.05)
    assert found["totals"]["store_bytes"] == pytest.approx(size_of(store, "unit-*"), rel=0.10)
    files = {source["source"]: source["selected_bytes"] for source in found["sources"]}
    assert files == {"code/**/*.py": size_of(tmp_path / "code", "*.py")} | {
        name: (tmp_path / name).stat().st_size for name in ("web.jsonl", "zh.jsonl")
    }
    assert all(source["download_bytes"] == 0 for source in found["sources"]), "they are here"
    epochs = {entry["name"]: entry["epochs"] for entry in manifest["subsets"]}
    for source, told in zip(found["sources"], epochs.values(), strict=True):
        assert source["epochs"] == pytest.approx(told, rel=0.10)


def test_what_there_is_not_enough_of_is_told_before_a_byte_is_read(tmp_path, recipe):
    content = yaml.safe_load(recipe.read_text())
    content["subsets"][0] |= {"tokens": 10**7, "max_epochs": 2}
    content["subsets"][1]["tokens"] = 10**11
    recipe.write_text(yaml.safe_dump(content))
    os.truncate(tmp_path / "web.jsonl", 10**12)  # a hole: read, it would take a quarter of an hour
    found = answer_for([str(recipe)], tmp_path / "data")
    web = found["sources"][1]
    assert web["selected_bytes"] == 10**12
    assert web["source_tokens"] == pytest.approx(10**12 / 1.1 / 4.687, rel=1e-6)
    assert web["epochs"] == pytest.approx(10**11 / web["source_tokens"], abs=1e-3)
    (shortfall,) = found["shortfalls"]
    assert shortfall["subset"] == "code"
    assert 0 < shortfall["left"] < 10**7
    assert any("max_epochs" in line for line in found["to_do"])


def test_sources_that_are_not_there_are_told_and_refused_by_the_dry_run(tmp_path, recipe):
    (tmp_path / "zh.jsonl").unlink()
    asked, _ = load_recipes([str(recipe)], tmp_path / "data")
    request = BuildRequest(asked, tmp_path / "data")
    found = as_json(forecast(request), asked_hub=False)
    states = {source["source"]: source["state"] for source in found["sources"]}
    assert states == {"code/**/*.py": "readable", "web.jsonl": "readable", "zh.jsonl": "missing"}
    assert any(line.startswith("missing: ") and "zh.jsonl" in line for line in found["to_do"])
    with pytest.raises(DataError, match=r"1 of 3 subsets .* cannot be read"):
        forecast(request, refuse=True)
    with pytest.raises(DataError) as refused:
        forecast(request, refuse=True)
    with pytest.raises(DataError) as stopped:
        build(request)
    assert str(refused.value) == str(stopped.value)
