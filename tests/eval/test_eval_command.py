"""`yulanmini eval`: score files with provenance, comparison, bad input named."""

import json
import shutil
import sys

import pytest

from data_recipes.errors import DataError
from data_recipes.synthesis.programs.documents import DIALOGUE_LEVELS
from data_recipes.synthesis.programs.draw import all_kinds
from eval import suites
from eval.comparison import compare
from eval.model_loading import load_model
from eval.suites import run_suite
from eval.tasks.heldout import Heldout
from train.errors import TrainError
from yulanmini import cli

SMALL = ["--set", "per_kind=1", "--set", "bytes_per_domain=500"]
QUESTIONS = ["--suite", "problems", "--set", "per_kind=1"]
SCORED = [kind for kind in all_kinds().values() if kind.level in DIALOGUE_LEVELS]


def call(monkeypatch, *arguments):
    """Run the command; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["yulanmini", "eval", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as exit:
        return exit.code or 0
    return 0


def test_run_writes_scores_with_what_they_were_made_of(model_folder, corpus, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, "run", model_folder, "--data", corpus, "--out", tmp_path / "base", "--json", *SMALL) == 0
    printed = json.loads(capsys.readouterr().out)
    scores = json.loads((tmp_path / "base" / "scores.json").read_text())
    assert printed == scores
    groups = {task: {row["group"] for row in scores["rows"] if row["task"] == task} for task in ("heldout", "problems")}
    assert groups["heldout"] == {path.stem for path in (corpus / "heldout").glob("*.jsonl")}
    assert {f"level {level}" for level in (1, 2, 3)} <= groups["problems"]
    assert {sample["expected"] is None for sample in scores["samples"]} == {True, False}
    provenance = scores["provenance"]
    assert provenance["data"]["fingerprint"] == json.loads((corpus / "manifest.json").read_text())["fingerprint"]
    assert provenance["settings"]["per_kind"] == 1
    assert {"torch", "transformers"} <= set(provenance["packages"])
    assert str(corpus.parent) not in json.dumps(scores)


def test_chat_and_question_prompts_are_told_apart_and_compared(model_folder, corpus, tmp_path, monkeypatch, capsys):
    base = run_suite(
        model_folder, data=corpus, suite="heldout", settings={"bytes_per_domain": 300}, out=tmp_path / "base"
    )
    settings = {"prompt": "chat", "per_kind": 1}
    run_suite(model_folder, data=corpus, suite="problems", settings=settings, out=tmp_path / "instruct")
    table = compare([tmp_path / "base", tmp_path / "instruct" / "scores.json"]).as_dict()
    assert table["not_comparable"] == []
    assert table["runs"] == ["base", "instruct"]
    rows = {(row["measure"], row["group"]): row["values"] for row in table["rows"]}
    (code,) = (row["value"] for row in base["rows"] if row["group"] == "code")
    assert rows["bits per byte", "code"] == [code, None]
    assert rows["exact match", "level 1"][0] is None
    assert rows["exact match", "level 1"][1] is not None
    assert call(monkeypatch, "compare", tmp_path / "base", tmp_path / "instruct") == 0
    assert "bits per byte" in capsys.readouterr().out


def test_dry_run_loads_and_writes_nothing(model_folder, corpus, tmp_path, monkeypatch, capsys):
    out = tmp_path / "none"
    assert call(monkeypatch, "run", model_folder, "--data", corpus, "--out", out, "--dry-run", "--json", *SMALL) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["tasks"]["problems"] == len(SCORED)
    assert not out.exists()


def test_weights_decide_the_fingerprint_and_the_folder_does_not(model_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(model_folder, tmp_path / "elsewhere")
    same = load_model(tmp_path / "elsewhere", device="cpu").provenance["fingerprint"]
    assert same == load_model(model_folder, device="cpu").provenance["fingerprint"]
    path = tmp_path / "elsewhere" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    assert load_model(tmp_path / "elsewhere", device="cpu").provenance["fingerprint"] != same


def test_bad_input_is_one_message_and_exit_2(model_folder, corpus, tmp_path, monkeypatch, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    (tmp_path / "empty").mkdir()
    no_weights = tmp_path / "no_weights"
    no_weights.mkdir()
    shutil.copy(model_folder / "config.json", no_weights)
    cases = [
        (["run", model_folder, "--data", corpus, "--suite", "quik"], "Did you mean 'quick'?"),
        (["run", tmp_path / "absent", "--data", corpus], "no such model folder"),
        (["run", tmp_path / "empty", "--data", corpus], "no config.json"),
        (["run", no_weights, "--data", corpus], "no weights"),
        (["run", broken, "--data", corpus, *SMALL], "not a whole safetensors file"),
        (["run", model_folder, "--data", tmp_path / "empty"], "no <domain>.jsonl of held-out text"),
        (["run", model_folder, "--data", corpus, "--set", "per_kind=0"], "per_kind: Input should be greater than or"),
        (["run", model_folder, "--data", corpus, "--set", "per_knd=1"], "Did you mean 'per_kind'?"),
        (["run", model_folder, "--data", corpus, "--set", "per_kind"], "expected key=value"),
        (["compare", tmp_path / "empty"], "no such file"),
    ]
    for arguments, message in cases:
        assert call(monkeypatch, *arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error


def test_where_scores_cannot_be_written_is_said_before_anything_is_scored(
    model_folder, corpus, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    monkeypatch.setattr(suites, "load_model", lambda *args, **kwargs: pytest.fail("a model was loaded"))
    for out, message in (("file", "is not a folder"), ("file/below", "is a file"), ("mine", "other files (notes.txt)")):
        for more in ([], ["--dry-run"]):
            assert call(monkeypatch, "run", model_folder, "--data", corpus, "--out", tmp_path / out, *more) == 2
            error = capsys.readouterr().err
            assert message in error
            assert "Choose another place" in error
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


def test_scores_of_another_model_or_of_other_settings_are_not_overwritten(model_folder, corpus, tmp_path, monkeypatch):
    settings = {"bytes_per_domain": 300}
    task = {"data": corpus, "suite": "heldout", "out": tmp_path / "scores"}
    once, again = (run_suite(model_folder, settings=settings, **task) for _ in range(2))
    assert again["rows"] == once["rows"]
    kept = (tmp_path / "scores" / "scores.json").read_bytes()
    monkeypatch.setattr(Heldout, "score", lambda *args, **kwargs: pytest.fail("text was scored"))
    with pytest.raises(DataError, match=r"settings\.context: was None, is 64"):
        run_suite(model_folder, settings={**settings, "context": 64}, **task)
    other = shutil.copytree(model_folder, tmp_path / "other")
    (other / "generation_config.json").write_text('{"eos_token_id": 3}')
    with pytest.raises(DataError, match=r"model: was '\w+.*, is '\w+"):
        run_suite(other, settings=settings, **task)
    assert (tmp_path / "scores" / "scores.json").read_bytes() == kept


def test_a_context_that_the_model_does_not_have_is_refused(model_folder, corpus, monkeypatch, capsys):
    assert call(monkeypatch, "run", model_folder, "--data", corpus, "--set", "context=161", *SMALL) == 2
    assert "context 161: the model's is 160 tokens" in capsys.readouterr().err


def test_questions_that_were_cut_are_counted_and_said(model_folder, corpus, tmp_path, monkeypatch, capsys):
    """The model's context is 160; worked answers may take 128 of it, which leaves 32 for the question."""
    assert call(monkeypatch, "run", model_folder, "--data", corpus, "--json", *QUESTIONS) == 0
    captured = capsys.readouterr()
    scores = json.loads(captured.out)
    cut = {row["group"]: row["cut"] for row in scores["rows"]}
    assert cut["level 1"] == cut["level 2"] == 0 < cut["level 3"]
    assert sum(number for group, number in cut.items() if group.count("/") == 2) == cut["level 3"]
    assert (
        f"{cut['level 3']} of {len(SCORED)} questions are longer than the model's context leaves room for"
        in captured.err
    )


def test_a_damaged_line_of_the_data_is_named(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    path = tmp_path / "corpus" / "heldout" / "code.jsonl"
    path.write_text('{"text": "fine"}\n{"txt": "not"}\n')
    with pytest.raises(TrainError, match="line 2: expected an object with a 'text'"):
        run_suite("unused", data=tmp_path / "corpus", suite="heldout")
