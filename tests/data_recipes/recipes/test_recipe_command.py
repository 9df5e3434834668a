"""`yulanmini recipe`: what it prints, writes and refuses."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from typer.testing import CliRunner

from data_recipes.errors import DataError
from data_recipes.recipes.phases import PUBLISHED_KEYS
from data_recipes.recipes.recipe import load_recipe, published_recipes
from data_recipes.recipes.shares import FAMILIES, family_of
from yulanmini.commands.recipe import app
from yulanmini.report.figure import DOMAIN_NAMES
from yulanmini.report.pictures import draw_curriculum


def run(*arguments: str):
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("key", ["7", "26", "26-4k"])
def test_show_prints_the_mix_as_json(key):
    shown = json.loads(run("show", key, "--json").stdout)
    extra = {"variant"} if key == "26-4k" else set()
    assert set(shown) == {"phase", "context_length", "tokens", "subsets"} | extra
    assert all(set(subset) == {"name", "tokens", "domain", "source"} for subset in shown["subsets"])
    assert shown["phase"] == int(key.split("-")[0])
    assert shown["context_length"] == (28_672 if key == "26" else 4_096)
    assert shown["tokens"] == sum(subset["tokens"] for subset in shown["subsets"])


def test_show_prints_a_users_recipe_too(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ncontext_length: 16\nsubsets: [{name: a, tokens: 5, source: {path: a.txt}}]"
    )
    shown = json.loads(run("show", str(tmp_path / "mine.yaml"), "--json").stdout)
    assert shown["name"] == "mine"
    assert shown["subsets"] == [{"name": "a", "tokens": 5, "domain": None, "source": "a.txt"}]


def test_list_has_a_line_for_each_mix():
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(PUBLISHED_KEYS)
    entries = json.loads(run("list", "--json").stdout)
    assert sum(entry["tokens"] for entry in entries) == sum(recipe.tokens for recipe in published_recipes())
    assert all(sum(entry["domains"].values()) == entry["tokens"] for entry in entries)


def test_check_reports_every_mix_and_step():
    report = json.loads(run("check", "--json").stdout)
    assert report["ok"]
    assert report["problems"] == []
    assert [mix["phase"] for mix in report["mixes"]] == list(PUBLISHED_KEYS)
    assert len(report["steps"]) == 13
    text = run("check").stdout
    assert "253,006" in text
    assert "DIFFERS" not in text


def test_check_fails_on_a_mix_that_differs(monkeypatch):
    from data_recipes.recipes import recipe as recipe_module

    changed = [*published_recipes()]
    changed[4] = changed[4].scaled(scale=0.9)
    monkeypatch.setattr(recipe_module, "published_recipes", lambda: changed)
    with pytest.raises(DataError, match=r"phase 5: .*published 40,242,850,167"):
        run("check")


def test_an_unknown_phase_is_refused():
    with pytest.raises(DataError, match="no phase '28'"):
        run("show", "28")


def test_the_plot_is_the_same_on_every_run_and_names_every_domain_and_phase(tmp_path):
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    run("plot", str(first))
    run("plot", str(second))
    assert first.read_bytes() == second.read_bytes()
    words = {element.text for element in ElementTree.parse(first).iter() if element.text}
    assert {name for name, _ in DOMAIN_NAMES.values()} <= words
    assert set(PUBLISHED_KEYS) <= words
    assert "var(" not in first.read_text()


def test_the_plot_by_source_shows_the_families(tmp_path):
    run("plot", str(tmp_path / "s.svg"), "--by", "source")
    words = {element.text for element in ElementTree.parse(tmp_path / "s.svg").iter() if element.text}
    assert set(FAMILIES) <= words


def test_the_bars_of_a_mix_are_its_shares(tmp_path):
    draw_curriculum(tmp_path / "p.svg", [load_recipe(1), load_recipe("26-4k")], by="domain")
    root = ElementTree.parse(tmp_path / "p.svg").getroot()
    [first, second] = [element for element in root.iter() if (element.get("class") or "").startswith("stack")]
    hints = [element.text for element in first.iter() if element.tag.endswith("title")]
    assert hints[0] == "Phase 1 · Web, English 49.7%"
    assert second.get("class") == "stack branch"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.jpg"], "expected .svg"),
        (["."], "is a folder. Give the name of a file"),
        (["x.svg", "--by", "sources"], "Did you mean 'source'"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_refused_before_drawing(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=re.escape(message)):
        run("plot", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_dry_run_writes_nothing(tmp_path):
    run("plot", str(tmp_path / "x.svg"), "--dry-run")
    assert list(tmp_path.iterdir()) == []


def test_every_subset_belongs_to_a_family_and_every_family_is_used():
    used = {family_of(subset) for recipe in published_recipes() for subset in recipe.subsets}
    assert used == set(FAMILIES)


@pytest.mark.parametrize("key", PUBLISHED_KEYS)
def test_an_exported_mix_reads_back_as_it_is_and_counts_as_the_users(key, tmp_path):
    (tmp_path / "mine.yaml").write_text(run("export", key).stdout)
    mine, published = load_recipe(tmp_path / "mine.yaml"), load_recipe(key)
    assert mine.model_dump() == published.model_dump()
    assert (mine.is_published, published.is_published) == (False, True)
    assert (mine.scaled(scale=0.5).is_published, published.scaled(scale=0.5).is_published) == (False, True)


def test_export_names_the_nearest_phase_and_prints_json():
    with pytest.raises(DataError, match="no phase '28'"):
        run("export", "28")
    assert len(json.loads(run("export", "27", "--json").stdout)["subsets"]) == 123
