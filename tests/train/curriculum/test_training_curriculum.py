"""The table of the curriculum at every edge, and the errors where config and data disagree."""

import json
from pathlib import Path
from typing import Any

import pytest
from pretrain_miniature import REPOSITORY, pretrain, write_inputs, write_run_config

from train.config import PretrainConfig, phase_names
from train.config_file import load_config
from train.curriculum.plan import Curriculum, PhaseRows, make_curriculum
from train.errors import TrainError


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def config_with(**changes: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "output_dir": "out",
            "model": {},
            "tokenizer": "tok",
            "data": {"dir": "data", "phases": ["1-2", 26]},
            "tokens_per_step": 1000,
            "optimizer": {"lr": 1.0},
            "schedule": {"warmup_steps": 2, "annealing": {"start": 26, "shape": "linear"}},
            "stages": [
                {"phases": "1-25", "rope_theta": 10_000},
                {"phases": "26-27", "rope_theta": 490_000, "document_mask": True},
            ],
            **changes,
        }
    )


def curriculum_with(**changes: Any) -> Curriculum:
    sources = [
        PhaseRows("1", "a", 10, 357),  # 3 steps of 100 rows, 57 left over
        PhaseRows("2", "b", 10, 400),
        PhaseRows("26", "c", 50, 100),  # 5 steps of 20 rows
    ]
    return make_curriculum(config_with(**changes), sources)


def test_phase_rows_rate_and_rope_base_at_every_edge() -> None:
    curriculum = curriculum_with()
    table = [
        (plan.phase.name, plan.row_start, plan.row_stop, plan.phase.context_length, plan.phase.rope_theta)
        for plan in map(curriculum.at, range(curriculum.total_steps))
    ]
    assert table == [
        ("1", 0, 100, 10, 10_000),
        ("1", 100, 200, 10, 10_000),
        ("1", 200, 300, 10, 10_000),
        ("2", 0, 100, 10, 10_000),
        ("2", 100, 200, 10, 10_000),
        ("2", 200, 300, 10, 10_000),
        ("2", 300, 400, 10, 10_000),
        ("26", 0, 20, 50, 490_000),
        ("26", 20, 40, 50, 490_000),
        ("26", 40, 60, 50, 490_000),
        ("26", 60, 80, 50, 490_000),
        ("26", 80, 100, 50, 490_000),
    ]
    plans = [curriculum.at(step) for step in range(12)]
    assert [plan.lr for plan in plans] == pytest.approx([0.5] + [1.0] * 7 + [0.8, 0.6, 0.4, 0.2])
    assert [plan.step for plan in plans if plan.starts_phase] == [0, 3, 7]
    assert [plan.step for plan in plans if plan.ends_phase] == [2, 6, 11]
    assert [plan.phase.document_mask for plan in plans] == [False] * 7 + [True] * 5
    assert [curriculum.phases[0].rows_left_over, curriculum.phases[1].rows_left_over] == [57, 0]


def test_the_phase_that_ends_at_a_count_of_updates() -> None:
    curriculum = curriculum_with()
    ending = {step: phase.name for step in range(13) if (phase := curriculum.phase_ending_at(step))}
    assert ending == {3: "1", 7: "2", 12: "26"}


def test_steps_outside_the_curriculum_do_not_exist() -> None:
    for step in (-1, 12):
        with pytest.raises(IndexError):
            curriculum_with().at(step)


def test_a_run_of_the_first_phases_keeps_their_part_of_the_schedule() -> None:
    whole = curriculum_with()
    start = make_curriculum(config_with(data={"dir": "data", "phases": "1"}), [PhaseRows("1", "a", 10, 357)])
    assert [start.at(step).lr for step in range(3)] == [whole.at(step).lr for step in range(3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens_per_step": 1001}, "1,001 is not a multiple of the context length 10 of phase 1"),
        ({"tokens_per_step": 1_000_000}, "phase 1: 357 rows are less than one step of 100,000"),
        ({"stages": [{"phases": "1-2"}]}, "no stage holds phase 26"),
        ({"stages": [{"phases": "1-26"}, {"phases": [2]}]}, "phase 2 is in an earlier stage already"),
        ({"stages": [{"phases": "1-26", "context_length": 10}]}, "phase 26 is declared with context length 10"),
        ({"schedule": {"annealing": {"start": 28}}}, "annealing.start: no phase '28'"),
    ],
)
def test_config_and_data_that_disagree_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        curriculum_with(**changes)


def test_phase_names_from_ranges_numbers_and_names() -> None:
    assert phase_names([1, "3-5", "26-4k", "mine"]) == ["1", "3", "4", "5", "26-4k", "mine"]
    assert phase_names("1-27")[-1] == "27"


def test_the_full_size_run_has_the_published_steps_within_half_a_percent(capsys: pytest.CaptureFixture[str]) -> None:
    config = REPOSITORY / "train" / "configs" / "yulanmini-2.4b.yaml"
    assert pretrain(config, "--dry-run", "--json", "--hardware", "56xA800") == 0
    report = json.loads(capsys.readouterr().out)
    ends = {row["phase"]: row["end_step"] for row in report["phases"]}
    for phase, published in {"1": 9_733, "8": 77_840, "16": 155_587, "25": 243_198, "26": 253_006}.items():
        assert ends[phase] == pytest.approx(published, rel=0.005)
    by_phase = {row["phase"]: row for row in report["phases"]}
    assert {row["rows_per_step"] for row in report["phases"][:25]} == {1008}
    assert {by_phase["26"]["rows_per_step"], by_phase["27"]["rows_per_step"]} == {144}
    assert by_phase["27"]["lr_last"] == pytest.approx(5.22e-5, rel=1e-3)
    # The published run took 28 hours a phase on these GPUs and had 18 rows on each, of 80 GB.
    assert by_phase["5"]["hours"] == pytest.approx(28, rel=0.05)
    assert by_phase["5"]["fitting_micro_batch_rows"] == 18
    assert len(report["proofs"]) == 3


def test_phases_that_do_not_fit_are_named_together_with_what_would_fit(capsys: pytest.CaptureFixture[str]) -> None:
    config = REPOSITORY / "train" / "configs" / "yulanmini-2.4b.yaml"
    whole_share = ("--set", "micro_batch_rows=null")
    assert pretrain(config, "--dry-run", "--hardware", "8xH100", *whole_share) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: phase")]
    assert any(
        "phase 21, 22, 23: 333.4 GB a device, but a H100 has 80; micro_batch_rows 18" in line for line in warnings
    )
    assert len(warnings) <= 6


def test_a_dry_run_of_built_phases_counts_their_tokens_and_starts_nothing(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_run_config(inputs, tmp_path / "config.yaml")
    assert pretrain(config, "--dry-run", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total_tokens"] == 18 * 384
    assert report["output_dir"] == str(tmp_path / "run")  # where the Slurm script looks whether the run is finished
    assert {source["name"]: source["tokens"] for source in report["sources"]["26"]} == {"a": 1152, "b": 1152}
    assert not (tmp_path / "run").exists()
    assert pretrain(config, "--dry-run") == 0
    assert "6,912 tokens in the phases" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["yulanmini-2.4b", "anneal-yulanmini-2.4b", "proxy-0.05b", "proxy-0.2b", "tiny"])
def test_shipped_configs_are_valid(name: str) -> None:
    config = load_config(PretrainConfig, REPOSITORY / "train" / "configs" / f"{name}.yaml")
    assert (config.optimizer.betas, config.optimizer.eps, config.optimizer.clip) == ((0.9, 0.95), 1e-15, 1.0)


def test_a_tail_that_another_variant_of_its_phase_would_lose_is_refused() -> None:
    stages = [{"phases": "1-27"}, {"phases": "26-4k"}]
    with pytest.raises(TrainError, match=r"phase 26 is not in this run, but 26-4k is. Set it to '26-4k'"):
        make_curriculum(
            config_with(stages=stages),
            [PhaseRows("1", "a", 10, 357), PhaseRows("26-4k", "b", 10, 357)],
        )
