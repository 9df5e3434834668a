"""`data sources --online` against a server on this machine that answers as the Hub does."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest

from data_recipes.errors import DataError
from data_recipes.hub_check import check_on_hub, matches
from data_recipes.source import Source

SHA = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """The datasets endpoint: by the repository's name it is there, moved, gated, gone, broken or slow."""

    def do_GET(self) -> None:
        owner, name = urlparse(self.path).path.removeprefix("/api/datasets/").split("/")[:2]
        if name == "old-name":
            self.send_response(307)
            self.send_header("Location", f"/api/datasets/{owner}/new-name")
            self.end_headers()
        elif name == "gone":
            self.answer(404, {"error": "Repository not found"}, code="RepoNotFound")
        elif name == "broken":
            self.answer(503, {"error": "try later"})
        elif name == "garbage":
            self.send_response(200)
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
            self.answer(200, info)

    def answer(self, status: int, value: dict, code: str | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def ask(endpoint: str, **sources: Source):
    found = check_on_hub(sources, endpoint=endpoint, progress=False, timeout=5)
    return {status.hub.split("/")[1]: status for status in found}


def test_each_state_of_a_dataset_is_told_apart(endpoint):
    names = ("there", "old-name", "gated", "gone", "disabled", "broken", "garbage")
    statuses = ask(endpoint, **{name: Source(hub=f"a/{name}") for name in names})
    assert {name: status.status for name, status in statuses.items()} == {
        "there": "ok",
        "old-name": "moved",
        "gated": "gated",
        "gone": "gone",
        "disabled": "gone",
        "broken": "unreachable",
        "garbage": "unreachable",
    }
    assert statuses["old-name"].now == "a/new-name"
    assert (statuses["there"].revision, statuses["there"].bytes) == (SHA, 2_000_000_000)
    assert statuses["there"].licence == "odc-by"
    assert "503" in statuses["broken"].message


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


def test_no_hub_at_all_is_one_message(monkeypatch):
    with pytest.raises(DataError, match=r"cannot be asked.*HF_ENDPOINT"):
        check_on_hub({"a": Source(hub="a/b")}, endpoint="http://127.0.0.1:9", progress=False, timeout=2)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="offline mode"):
        check_on_hub({"a": Source(hub="a/b")}, endpoint="http://127.0.0.1:9", progress=False, timeout=2)


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
