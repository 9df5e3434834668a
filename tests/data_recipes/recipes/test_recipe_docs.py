"""docs/recipes.md: its commands run, its example is a recipe, and its tables are what the code computes."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from data_recipes.recipes.curriculum import check_steps
from data_recipes.recipes.recipe import load_recipe
from data_recipes.recipes.shares import place_uses, subset_uses, tokens_by_access, tokens_by_readable, trained_recipes
from data_recipes.recipes.templates import published_templates
from yulanmini.commands.data_sources import sources
from yulanmini.commands.recipe import app as recipe_app

GUIDE = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip().split("#")[0].strip()
    for line in GUIDE.splitlines()
    # What needs a network or a finished run is left out; test_propose.py runs the commands that have next.yaml.
    if line.startswith("    yulanmini ") and "--online" not in line and "next.yaml" not in line
]


@pytest.fixture(scope="module")
def uses():
    return subset_uses(trained_recipes())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_guide_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, group, *arguments = shlex.split(command)
    app = typer.Typer()
    if group == "recipe":
        app = recipe_app
    else:
        assert arguments.pop(0) == "sources"
        app.command()(sources)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


def test_the_example_of_the_guide_is_a_recipe(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "my-anneal.yaml").write_text(example[1], encoding="utf-8")
    recipe = load_recipe(tmp_path / "my-anneal.yaml")
    assert [subset.name for subset in recipe.subsets] == ["code", "prose", "web", "chat"]
    assert recipe.subsets[3].source == "slimorca"


def test_the_tables_of_sources_are_what_the_command_counts(uses):
    total = sum(use.tokens for use in uses)
    for access, tokens in tokens_by_access(uses).items():
        count = sum(use.source.access == access for use in uses)
        assert f"| `{access}` | {count} | {tokens / 1e9:.2f} | {tokens / total:.1%} |" in GUIDE
    for place in place_uses(uses)[:12]:
        cells = (place.place, f"`{place.access}`", place.readable, f"{place.tokens / 1e9:.1f}")
        assert f"| {' | '.join(cells)} | {place.tokens / total:.1%} |" in GUIDE
    shares = {readable: f"{tokens / total:.1%}" for readable, tokens in tokens_by_readable(uses).items()}
    assert f"A build reads {shares['yes']} of the tokens" in GUIDE
    assert f"{shares['after scoring']} after scoring" in GUIDE
    assert f"other {shares['no']}" in GUIDE
    unverified = sum(use.tokens for use in uses if use.source.verified is False)
    assert f"{unverified / total:.1%} of the tokens" in GUIDE


def test_every_unpublished_subset_is_named_in_the_guide(uses):
    for use in uses:
        if use.source.access == "not-public" and not use.name.startswith("cicg-news-en/"):
            assert f"| `{use.name}` | {use.tokens / 1e9:.3f}B |" in GUIDE
    news = sum(use.tokens for use in uses if use.name.startswith("cicg-news-en/"))
    assert f"`cicg-news-en/*` (four cleanings) | {news / 1e9:.3f}B" in GUIDE


def test_the_table_of_steps_is_what_the_check_predicts():
    checks = {check.phase: check for check in check_steps()}
    rows = re.findall(r"^\| (\d+) \| ([\d,]+) \| ([\d,]+) \| ([+-][\d.]+) %", GUIDE, re.MULTILINE)
    assert len(rows) == 5
    for phase, predicted, published, error in rows:
        check = checks[int(phase)]
        assert f"{check.predicted:,.0f}" == predicted
        assert f"{check.published:,}" == published
        assert f"{100 * check.relative_error:+.3f}" == error


def test_every_template_is_in_the_guide():
    for name in published_templates():
        assert f"`{name}`" in GUIDE
