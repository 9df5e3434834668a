"""`data sources --online` against a server on this machine that answers as the Hub does."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import pytest
from hub_server import SHA, Hub, serve

from data_recipes.reading.files import matches
from data_recipes.reading.hub_status import check_on_hub
from data_recipes.recipes.source import Source

# Name of a repository to the Hub's refusal: status, error code, further headers.
REFUSALS: dict[str, tuple[int, str | None, dict[str, str]]] = {
    "gone": (404, "RepoNotFound", {}),
    "not-logged-in": (401, "GatedRepo", {}),
    "not-accepted": (403, "GatedRepo", {}),
    "no-rights": (403, None, {}),
    "broken": (503, None, {}),
    "too-often": (429, None, {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}),
    "too-often-too": (429, None, {"Retry-After": "7"}),
}


class Moods(Hub):
    """The datasets endpoint: by the repository's name it is there, moved, gated, gone, broken or slow."""

    def do_GET(self) -> None:
        owner, name = urlparse(self.path).path.removeprefix("/api/datasets/").split("/")[:2]
        if name in ("old-name", "older-name"):
            self.send_response(307 if name == "old-name" else 301)
            self.send_header("Location", f"/api/datasets/{owner}/new-name")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name in REFUSALS:
            status, code, headers = REFUSALS[name]
            self.send_json(status, {"error": "refused"}, code=code, headers=headers)
        elif name == "slow":
            time.sleep(3)
            self.send_json(200, {"id": f"{owner}/{name}"})
        elif name == "garbage":
            self.send_response(200)
            self.send_header("Content-Length", "25")
            self.end_headers()
            self.wfile.write(b"<html>a login page</html>")
        else:
            info = {
                "id": f"{owner}/{name}",
                "sha": SHA,
                "gated": "manual" if name == "gated" else False,
                "disabled": name == "disabled",
                "usedStorage": 2_000_000_000,
                "cardData": {"license": "odc-by", "configs": [{"config_name": "en"}, {"config_name": "zh"}]},
                "siblings": [{"rfilename": "README.md"}, {"rfilename": "data/train-0.parquet"}],
            }
            self.send_json(200, info)


@pytest.fixture(scope="module")
def endpoint():
    with serve(Moods) as address:
        yield address


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
    assert (statuses["there"].revision, statuses["there"].bytes) == (SHA, 2_000_000_000)
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
