"""`yulanmini data synthesize` as it is typed: what it says and writes, with a model and without."""

import json

import pyarrow.parquet as pq
import pytest
from endpoint_server import serve_answers
from kind_answers import PLAYS
from test_every_kind import player

from yulanmini.cli import run

SEEDS = PLAYS["math-documents"].seeds


def typed(capsys, *arguments):
    """Carry out a command line; its exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        run(["data", "synthesize", *map(str, arguments)])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


@pytest.fixture
def seeds(tmp_path):
    path = tmp_path / "seeds.jsonl"
    rows = [{"content": seed["text"]} for seed in SEEDS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_run_with_a_model_from_estimate_to_report(seeds, tmp_path, capsys):
    out = tmp_path / "out"
    with serve_answers(player(PLAYS["math-documents"])) as server:
        command = [
            "math-documents",
            "--in",
            f"mine={seeds}",
            "--out",
            out,
            "--endpoint",
            server.url,
            "--model",
            "served",
        ]
        command += ["--column", "text=content", "--set", "temperature=0.2", "--price-in", "1", "--price-out", "10"]
        code, estimate, _ = typed(capsys, *command, "--dry-run", "--json")
        assert code == 0
        assert json.loads(estimate)["requests"] == 2
        assert "A ladder leans" in json.loads(estimate)["first_prompt"]
        assert not out.exists()
        assert server.asked == []
        code, found, said = typed(capsys, *command, "--json")
        assert code == 0, said
        assert {body["temperature"] for body in server.asked} == {0.2}
        told = json.loads(found)
        assert (told["counts"]["accepted"], told["counts"]["rejected"]) == (1, 2)
        assert told["recipe_source"]["path"] == str(out / "samples")
        tokens = told["counts"]
        assert told["cost"] == pytest.approx((tokens["prompt_tokens"] + 10 * tokens["completion_tokens"]) / 1e6)
        code, table, said = typed(capsys, *command)
        assert code == 0
        assert len(server.asked) == 2, "it was finished"
    assert "solution too short" in table
    assert "1 of 3 seeds accepted" in said
    assert f"path: {out / 'samples'}" in said
    assert "solution too short" in (out / "report.html").read_text()
    row = pq.read_table(out / "samples").to_pylist()[0]
    assert (row["seed_source"], row["verdict"]) == ("mine", "accepted")


def test_programs_need_no_model_and_give_the_same_columns(seeds, tmp_path, capsys):
    out = tmp_path / "problems"
    command = ["programs", "--out", out, "--count", "50", "--level", "1", "--language", "en"]
    code, estimate, _ = typed(capsys, *command, "--dry-run", "--json")
    assert (code, json.loads(estimate)["count"]) == (0, 50)
    code, found, _ = typed(capsys, *command, "--json")
    assert code == 0
    assert json.loads(found)["counts"]["samples"] == 50
    assert "50 problems" in (out / "report.html").read_text()
    common = {
        "seed_source",
        "seed_file",
        "seed_row",
        "kind",
        "prompt",
        "response",
        "finish_reason",
        "verdict",
        "reason",
    }
    assert {*common, "checked", "text"} <= set(pq.read_table(out / "samples").column_names)
