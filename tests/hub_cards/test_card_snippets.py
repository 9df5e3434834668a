"""The code on the cards of a finished miniature, run against a Hub that holds its repos."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hub_cards.loopback.hub import LoopbackHub
from yulanmini.run_layout import HUB

# Servers, which are started in tests of their own or not at all (docs/serving.md says which).
SERVERS = ("transformers serve ", "vllm serve ", "llama-server ")
RUN_ALL = """
import contextlib, io, json, sys
printed = []
for place, code in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, place, "exec"), {})
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def blocks(card: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", card.read_text(), re.S | re.M)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "revisions" not in path.relative_to(folder).parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def repos(smoke_run) -> list[Path]:
    return sorted(path.parent for path in (smoke_run / HUB).glob("*/*/README.md"))


@pytest.fixture(scope="module")
def hub(repos):
    with LoopbackHub() as hub:
        for repo in repos:
            kind, name = "model" if (repo / "config.json").is_file() else "dataset", f"{repo.parent.name}/{repo.name}"
            hub.put(kind, name, files_of(repo))
            for branch in (repo / "revisions").glob("*"):
                hub.put(kind, name, files_of(branch), branch=branch.name)
        yield hub


@pytest.fixture
def environment(hub, tmp_path) -> dict[str, str]:
    return hub.environment(tmp_path / "home") | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}


def run(command: list[str], place: Path, environment: dict[str, str], **options) -> str:
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == 0, f"{command[:2]} {done.stdout[-300:]} {done.stderr[-1500:]}"
    return done.stdout


@pytest.mark.slow
def test_the_python_on_every_card_runs(repos, environment, tmp_path):
    cards = [card for repo in repos for card in (repo / "README.md", *sorted(repo.glob("revisions/*/README.md"))[:1])]
    code = [(str(card), block) for card in cards for block in blocks(card, "python")]
    assert len(code) >= 6
    printed = run([sys.executable, "-c", RUN_ALL], tmp_path, environment, input=json.dumps(code))
    parts = json.loads(printed.splitlines()[-1])
    assert len(parts) == len(code)
    assert all(part.strip() for part in parts)


@pytest.mark.slow
def test_the_commands_on_every_card_run(repos, environment, tmp_path):
    ran = []
    for repo in repos:
        for line in "".join(blocks(repo / "README.md", "sh")).splitlines():
            if line.startswith(SERVERS):
                continue
            program, *words = shlex.split(line)
            assert program in ("hf", "yulanmini"), line
            place = tmp_path / repo.name
            place.mkdir(exist_ok=True)
            run([str(Path(sys.executable).with_name(program)), *words], place, environment)
            ran.append(line)
    assert any("gguf" in line for line in ran)
    assert any("--revision" in line for line in ran)
    assert (tmp_path / next(repo.name for repo in repos if repo.name.endswith("instruct")) / "model.gguf").is_file()
