"""The study of the instruct stages: its intervals, what it calls a change, and a whole one on a small run."""

import json

import numpy as np
import pytest

from yulanmini.reproduce.instruct_study import bootstrap, of_level
from yulanmini.run_layout import MODELS


def results(shares: dict[str, float], *, seeds: int = 3, problems: int = 200) -> dict[int, dict[str, dict]]:
    """Models that answer so many of the problems of level 1 right, the same ones from every seed."""
    return {
        seed: {
            model: {
                "problems": [
                    {
                        "kind": "odd" if place % 2 else "even",
                        "level": 1,
                        "language": "en",
                        "chance": 0.6 if place % 2 else 0.1,
                        "greedy": float((place * 7 + seed) % problems < share * problems),
                        "sampled": share,
                    }
                    for place in range(problems)
                ],
                "heldout": {"web-en": 2.0},
            }
            for model, share in shares.items()
        }
        for seed in range(seeds)
    }


def test_a_stage_that_raises_the_share_is_told_from_one_that_does_not():
    found = of_level(results({"base": 0.1, "sft": 0.6, "dpo": 0.6, "on-policy": 0.7}), 1)
    assert found["chance"] == pytest.approx(0.35)
    stages = {name: stage["greedy"] for name, stage in found["stages"].items()}
    assert stages["sft"][0] == pytest.approx(0.5)
    assert stages["sft"][1] > 0
    assert stages["dpo"] == (0.0, 0.0, 0.0)  # the same problems right: paired, there is no doubt left
    assert stages["on-policy"][1] > 0
    assert found["models"]["base"]["above_chance"][2] < 0 < found["models"]["sft"]["above_chance"][1]
    assert found["kinds_above_chance"]["sft"] == ["even"]
    assert list(found["models"]) == list(MODELS)


def test_the_interval_is_that_of_drawing_seeds_and_problems_again():
    rng = np.random.default_rng(1)
    values = (rng.random((4, 150)) < rng.normal(0.5, 0.1, (4, 1))).astype(float)
    mean, low, high = bootstrap(values)
    drawn = [values[np.ix_(rng.integers(0, 4, 4), rng.integers(0, 150, 150))].mean() for _ in range(4000)]
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
    alone = bootstrap(values[:1])
    assert alone[2] - alone[1] < high - low  # what seeds add is in it


@pytest.mark.slow
def test_a_study_runs_the_stages_from_each_seed_and_goes_on_where_it_was(smoke_run, tmp_path, typed):
    out = tmp_path / "out"
    command = f"train instruct-study --run {smoke_run} --out {out} --json --per-kind 4 --samples 1 --threads 1"
    first, both = (json.loads(typed(f"{command} --seeds {seeds}").stdout) for seeds in (1, 2))
    assert both["levels"]["1"]["models"]["base"]["greedy"][0] == first["levels"]["1"]["models"]["base"]["greedy"][0]
    one, other = ((out / f"seed-{seed}" / "06-sft" / "model.safetensors") for seed in (0, 1))
    assert one.read_bytes() != other.read_bytes()
