"""The Space of a run: its folder, and with gradio installed the page itself, asked through its client."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from data_recipes.errors import DataError
from data_recipes.manifest import verify_files
from hub_cards.checks.check import check_repo
from hub_cards.errors import HubError
from hub_cards.repos.folder import open_repo
from hub_cards.space.write import GRADIO, example_prompts, write_space

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL_ID = "someone/tiny-instruct"


@pytest.fixture
def scores(tmp_path) -> Path:
    samples = [
        {"prompt": f"{kind} in {language}, {number}?", "kind": kind, "language": language, "correct": number > 0}
        for kind in ("add", "larger")
        for language in ("en", "zh")
        for number in range(3)
    ]
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"samples": samples}))
    return path


@pytest.fixture
def run(tmp_path) -> Path:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text('{"max_position_embeddings": 256}')
    (tmp_path / "run" / "report.html").write_text(f"<p>made in {tmp_path / 'run'}, #!/home/me/bin/python</p>")
    return tmp_path / "run"


@pytest.fixture
def space(run, scores, tmp_path) -> Path:
    return write_space(tmp_path / "space", run=run, model=run / "model", model_id=MODEL_ID, scores=scores)


def test_the_folder_is_a_repo_of_the_type_space_with_all_that_the_hub_needs(space, run, scores):
    repo = open_repo(space)
    assert (repo.type, [branch.name for branch in repo.branches]) == ("space", ["main"])
    names = {"README.md", "app.py", "manifest.json", "report.html", "requirements.txt", "space.json"}
    assert set(repo.branches[0].files) == names
    assert verify_files(space) == []
    header = yaml.safe_load((space / "README.md").read_text().split("---\n")[1])
    assert (header["sdk"], header["app_file"], header["models"]) == ("gradio", "app.py", [MODEL_ID])
    assert len(header["short_description"]) <= 60
    assert f"gradio=={header['sdk_version']}" in (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"\w+==[\d.]+", line) for line in (space / "requirements.txt").read_text().splitlines())
    assert not [path for path in space.iterdir() if str(run) in path.read_text()]
    assert (space / "report.html").read_text() == "<p>made in ., #!~/bin/python</p>"
    settings = json.loads((space / "space.json").read_text())
    asked = {sample["prompt"]: sample["correct"] for sample in json.loads(scores.read_text())["samples"]}
    assert len(settings["examples"]) == 6
    assert all(asked[prompt] for prompt in settings["examples"])
    # One of each kind and language before a second of any.
    assert len({prompt.split(",")[0] for prompt in settings["examples"][:4]}) == 4


def test_the_check_passes_it_and_sees_what_is_wrong_with_it(space):
    assert check_repo(space) == []
    (space / "app.py").write_text('TOKEN = "hf_' + "a" * 34 + '"')
    (space / "weights.bin").write_bytes(b"\0")
    found = {finding.place for finding in check_repo(space) if finding.severity == "error"}
    assert {"app.py", "weights.bin"} <= found


def test_the_app_needs_nothing_of_this_package(space):
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse((space / "app.py").read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"gradio", "transformers"}


def test_given_again_it_is_kept_and_anything_else_in_its_place_is_refused(space, run, scores, tmp_path):
    card = space / "README.md"
    card.write_text(card.read_text() + "My words.\n")
    again = {"run": run, "model": run / "model", "model_id": MODEL_ID, "scores": scores}
    write_space(space, **again)
    assert card.read_text().endswith("My words.\n")
    with pytest.raises(DataError, match="made from something else"):
        write_space(space, **again | {"model_id": "someone/other"})
    with pytest.raises(DataError, match="holds"):
        write_space(run / "model", **again)
    with pytest.raises(HubError, match="no model there"):
        write_space(tmp_path / "new", **again | {"model": run})
    with pytest.raises(HubError, match="no scores there"):
        write_space(tmp_path / "new", **again | {"scores": run / "scores.json"})
    assert not (tmp_path / "new").exists()


def test_a_model_that_answers_nothing_right_is_said_to(scores, run, tmp_path):
    samples = [{"prompt": "1 + 1?", "correct": False, "kind": "add", "language": "en"}]
    scores.write_text(json.dumps({"samples": samples}))
    assert example_prompts(scores) == (False, ["1 + 1?"])
    space = write_space(tmp_path / "space", run=run, model=run / "model", model_id=MODEL_ID, scores=scores)
    assert "it answers none of them right" in (space / "README.md").read_text()


@pytest.mark.slow
def test_the_page_answers_its_own_example_as_it_was_scored(smoke_run, tmp_path):
    """Started as a user starts it. Skipped without gradio, which the set-up does not install: extra `space`."""
    gradio = pytest.importorskip("gradio", reason="gradio is not installed (extra `space`)")
    client = pytest.importorskip("gradio_client", reason="gradio is not installed (extra `space`)")
    assert gradio.__version__ == GRADIO
    model, scores = smoke_run / "08-on-policy", smoke_run / "09-scores" / "on-policy" / "scores.json"
    space = write_space(tmp_path / "space", run=smoke_run, model=model, model_id=MODEL_ID, scores=scores)
    environment = {**os.environ, "MODEL": str(model), "GRADIO_SERVER_NAME": "127.0.0.1", "PYTHONPATH": ""}
    log = tmp_path / "log"
    with log.open("w") as output:
        app = subprocess.Popen(
            [sys.executable, "-u", "app.py"], cwd=space, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + 240
        while not (address := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert app.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        page = client.Client(address[0], verbose=False)
        [sample, *_] = json.loads(scores.read_text())["samples"]
        job = page.submit(sample["prompt"], 0, 0.9, 64, api_name="/chat")
        assert job.result(timeout=120) == sample["output"]
        assert all(sample["output"].startswith(piece) for piece in job.outputs())
        assert isinstance(page.predict(sample["prompt"], 1.0, 0.9, 8, api_name="/chat"), str)
    finally:
        app.kill()
        app.wait()
