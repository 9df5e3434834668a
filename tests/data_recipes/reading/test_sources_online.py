"""`data sources --online` against a server on this machine that answers as the Hub does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_recipes.reading.files import matches
from data_recipes.reading.hub_status import check_on_hub
from data_recipes.recipes.source import Source
from hub_cards.loopback.hub import LoopbackHub

# Name of a repository to what the Hub, or the network before it, answers.
FAULTS: dict[str, tuple[str, float]] = {
    "gone": ("404 RepoNotFound", 0),
    "not-logged-in": ("401 GatedRepo", 0),
    "not-accepted": ("403 GatedRepo", 0),
    "no-rights": ("403", 0),
    "broken": ("503", 0),
    "too-often-too": ("429", 7),
    "too-often": ("429 limited", 55),
    "slow": ("slow", 3),
    "garbage": ("page", 0),
}
CARD = b"---\nlicense: odc-by\nconfigs:\n- config_name: en\n- config_name: zh\n---\n"
FILES = {"README.md": CARD, "data/train-0.parquet": b"PAR1"}


@pytest.fixture(scope="module")
def endpoint():
    """By the repository's name it is there, moved, gated, gone, broken or slow."""
    with LoopbackHub() as hub:
        for name in ("there", "new-name", "b"):
            hub.put("dataset", f"a/{name}", FILES)
        hub.put("dataset", "a/gated", FILES, gated="manual")
        hub.put("dataset", "a/disabled", FILES, disabled=True)
        hub.move("dataset", "a/old-name", "a/new-name")
        hub.move("dataset", "a/older-name", "a/new-name", status=301)
        for name, (kind, seconds) in FAULTS.items():
            hub.put("dataset", f"a/{name}", FILES)
            hub.breaks(kind, "info", where=f"a/{name}", seconds=seconds)
        yield hub.url


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def ask(endpoint: str, *, timeout: float = 5, **sources: Source):
    found = check_on_hub(sources, endpoint=endpoint, progress=False, timeout=timeout)
    return {status.hub.split("/")[1]: status for status in found}


def test_each_state_of_a_dataset_is_told_apart(endpoint):
    states = {
        "there": "ok",
        "old-name": "moved",
        "older-name": "moved",
        "gated": "gated",
        "not-logged-in": "gated",
        "not-accepted": "gated",
        "gone": "gone",
        "disabled": "gone",
        "no-rights": "unreachable",
        "broken": "unreachable",
        "garbage": "unreachable",
        "too-often": "unreachable",
        "too-often-too": "unreachable",
    }
    statuses = ask(endpoint, **{name: Source(hub=f"a/{name}") for name in states})
    assert {name: status.status for name, status in statuses.items()} == states
    assert statuses["old-name"].now == statuses["older-name"].now == "a/new-name"
    assert len(statuses["there"].revision) == 40
    assert statuses["there"].bytes > len(CARD)
    assert statuses["there"].licence == "odc-by"
    assert "hf auth login" in statuses["not-logged-in"].message
    assert "503" in statuses["broken"].message
    assert "in 55 seconds" in statuses["too-often"].message
    assert "in 7 seconds" in statuses["too-often-too"].message


def test_one_that_is_refused_or_slow_first_does_not_stop_the_others(endpoint):
    names = ("slow", "broken", "too-often", "there")
    statuses = ask(endpoint, timeout=0.5, **{name: Source(hub=f"a/{name}") for name in names})
    assert [(name, status.status, status.unanswered) for name, status in statuses.items()] == [
        ("slow", "unreachable", True),
        ("broken", "unreachable", False),
        ("too-often", "unreachable", False),
        ("there", "ok", False),
    ]


def test_a_dataset_that_several_entries_read_is_asked_once(endpoint):
    found = check_on_hub(
        {"one": Source(hub="a/b", config="en"), "two": Source(hub="a/b", config="zh"), "local": Source(path="x")},
        endpoint=endpoint,
        progress=False,
    )
    assert [status.hub for status in found] == ["a/b"]


def test_files_and_configs_that_are_not_there_are_named(endpoint):
    statuses = ask(
        endpoint,
        good=Source(hub="a/b", config="zh", data_files=("data/train-*.parquet",)),
        lost=Source(hub="a/b", config="fr", data_files=("data/*/x.parquet", "**/*.parquet")),
    )
    assert statuses["b"].missing == (
        "lost: no file matches data/*/x.parquet",
        "lost: no config 'fr' on the card",
    )


def test_without_a_network_each_dataset_has_that_result_and_few_are_asked(monkeypatch):
    sources = {str(number): Source(hub=f"a/{number}") for number in range(20)}
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        statuses = check_on_hub(sources, endpoint="http://127.0.0.1:9", progress=False, timeout=2)
        assert [status.hub for status in statuses] == [source.hub for source in sources.values()]
        assert {(status.status, status.unanswered) for status in statuses} == {("unreachable", True)}
        assert sum("not asked" in status.message for status in statuses) == 17
        assert ("offline mode" in statuses[0].message) == offline


@pytest.mark.parametrize(
    ("file", "pattern", "fits"),
    [
        ("data/a.parquet", "data/*.parquet", True),
        ("data/x/a.parquet", "data/*.parquet", False),
        ("data/x/a.parquet", "data/**/*.parquet", True),
        ("data/a.parquet", "data/**/*.parquet", True),
        ("a.parquet", "**/*.parquet", True),
        ("data/a.parquet", "data/[bc].parquet", False),
    ],
)
def test_patterns_match_as_paths(file, pattern, fits):
    assert matches(file, pattern) is fits


def test_the_command_asks_the_hub_that_hf_endpoint_names(endpoint, tmp_path: Path):
    (tmp_path / "r.yaml").write_text(
        "name: r\ncontext_length: 16\nsubsets:\n"
        "  - {name: a, tokens: 5, source: {hub: a/old-name}}\n  - {name: b, tokens: 5, source: {hub: a/gone}}\n"
    )
    program = (
        "import typer\nfrom yulanmini.commands.data_sources import sources\n"
        "app = typer.Typer()\napp.command()(sources)\napp()"
    )
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "r.yaml"), "--online", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    hub = json.loads(result.stdout)["hub"]
    assert [(status["hub"], status["status"], status["now"]) for status in hub] == [
        ("a/old-name", "moved", "a/new-name"),
        ("a/gone", "gone", None),
    ]


def test_the_command_shows_the_table_and_then_says_that_the_hub_is_not_there(tmp_path: Path):
    (tmp_path / "r.yaml").write_text(
        "name: r\ncontext_length: 16\nsubsets:\n  - {name: a, tokens: 5, source: {hub: a/there}}\n"
    )
    program = "import sys\nfrom yulanmini.cli import main\nsys.exit(main())"
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program, "data", "sources", str(tmp_path / "r.yaml"), "--online"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert "a/there" in result.stdout
    assert "error: the Hub cannot be asked" in result.stderr
    assert "Traceback" not in result.stderr
