"""The study's trainings: what continues from a calm beginning, what is put in, and what comes out as one run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_studies import inputs, small_base  # noqa: F401 -- a fixture

from data_recipes.rows.reader import PackedRows
from data_recipes.rows.verify import verify
from train.checkpoints.tensors import CheckpointEntries
from train.studies.early_warning.bad_rows import KINDS, write_bad_rows
from train.studies.early_warning.conditions import CALM, Condition
from train.studies.early_warning.runs import Lengths, Trainings, WatchedRun
from train.studies.trials import Inputs, Job, Trial, run_job
from yulanmini.cli import run as run_command


def one_by_one(jobs: list[Job]) -> list[Trial]:
    return [run_job(job) for job in jobs]


def test_runs_go_on_from_one_checkpoint_with_what_their_condition_changes_and_nothing_else(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
) -> None:
    small = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}
    trainings = Trainings(
        inputs, tmp_path, Lengths(4, 4, 3, bad_rows=16), base=small_base(tmp_path, "proxy-warned", **small)
    )
    conditions = [
        Condition("continued", CALM, begins="standard"),
        Condition("no second moment", "optimizer", begins="standard", moments=("exp_avg_sq", 0.0)),
        Condition("random", "rows", begins="standard", rows="random-ids"),
    ]
    runs = trainings.run(one_by_one, [(condition, 0) for condition in conditions])
    assert [[record["step"] for record in run.trial.records] for run in runs] == [list(range(1, 8))] * 3
    assert [run.calm_steps for run in runs] == [0, 4, 4]
    calm, broken, random = (run.trial.losses for run in runs)
    assert calm[:5] == broken[:5], "the weights are those of the checkpoint; the first update is another"
    assert calm[5] != broken[5]
    assert calm[:4] == random[:4]
    assert [record["phase"] for record in runs[2].trial.records] == ["1"] * 4 + ["random-ids"] * 3

    (copy,) = (tmp_path / "checkpoints").iterdir()
    before = CheckpointEntries(next((tmp_path / "beginnings").glob("*/run/checkpoints/step-00000004")))
    after = CheckpointEntries(copy)
    for name in before.tensors():
        expected = torch.zeros_like(before.read(name)) if name.endswith(".exp_avg_sq") else before.read(name)
        assert torch.equal(after.read(name), expected), name

    log = next(tmp_path.glob("trials/random-0/run/metrics.jsonl"))
    written = log.stat().st_mtime_ns
    assert trainings.run(one_by_one, [(conditions[2], 0)])[0].trial == runs[2].trial
    assert log.stat().st_mtime_ns == written, "a finished trial is not run again"


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_stretch_is_a_phase_like_any_other(inputs: Inputs, kind: str, tmp_path: Path) -> None:  # noqa: F811
    good = inputs.data / "phase-01"
    write_bad_rows(good, tmp_path / kind, kind=kind, rows=20)
    assert verify(tmp_path / kind) == []
    rows, old = PackedRows(tmp_path / kind), PackedRows(good)
    ids, before = rows.rows(0, 20).input_ids, old.rows(0, 20).input_ids
    assert len(rows) == 20
    assert rows.fingerprint != old.fingerprint
    assert not np.array_equal(ids, before)
    assert (np.array_equal(np.sort(ids, axis=1), np.sort(before, axis=1))) == (kind == "shuffled")
    assert (len(np.unique(ids)) == 1) == (kind == "one-token")


@pytest.mark.slow
def test_the_quick_study_comes_to_its_page(smoke_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    study = ["train", "early-warning-study", "--run", str(smoke_run), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        run_command([*study, "--quick", "--seeds", "1", "--json"])
    assert ended.value.code == 0
    result = json.loads((out / "early-warning.json").read_text())
    assert len(result["trials"]) >= 12
    assert set(result["judged"]) >= {"chosen", "variance_growth", "grad_norm", "attention", "yesterday"}
    assert (out / "early-warning.md").read_text().startswith("# Early warning")
    assert (out / "early-warning.svg").stat().st_size > 1000


def test_a_run_without_a_beginning_is_watched_from_its_first_step() -> None:
    scratch = WatchedRun(Condition("made up", "rate"), 1, Trial([{"step": 1}], True), 0)
    assert (scratch.calm_steps, scratch.name) == (0, "made-up-1")
