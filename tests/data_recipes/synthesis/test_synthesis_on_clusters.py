"""Shards as jobs of datatrove's executors: the bytes are those of a run on one machine."""

import pytest
from endpoint_server import serve_answers
from synthesis_runs import PATHS, made, outputs, prepared, right, rows, write_seeds

from data_recipes.executors.cluster import StageStep
from data_recipes.manifest import read_manifest
from data_recipes.synthesis import seeds as seeds_module
from data_recipes.synthesis.run import KIND
from data_recipes.synthesis.synthesize import stages_of, synthesize

PLAIN = {"kind": "test-unchecked-sums"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Seeds in several shards, and what a run on this machine makes of them."""
    monkeypatch.setattr(seeds_module, "SHARD_SEEDS", 4)
    seeds = write_seeds(tmp_path / "seeds.jsonl", 18)
    with serve_answers(right) as server:
        made(seeds, tmp_path / "here", server.url, **PLAIN)
    return seeds, outputs(tmp_path / "here")


def test_the_stages_are_steps_for_datatroves_own_local_executor(here, tmp_path):
    from datatrove.executor import LocalPipelineExecutor

    seeds, expected = here
    out = tmp_path / "out"
    out.mkdir()
    with serve_answers(right) as server:
        for number, stage in enumerate(stages_of(prepared(seeds, out, server.url, **PLAIN))):
            logs = str(tmp_path / "logs" / str(number))
            LocalPipelineExecutor([StageStep(stage)], tasks=1 if stage.alone else 3, workers=1, logging_dir=logs).run()
    assert outputs(out) == expected


@pytest.mark.slow
def test_slurm_gives_the_same_bytes_and_is_asked_again_how_far_it_is(here, tmp_path, slurm, kinds_importable):
    seeds, _ = here
    (tmp_path / "slurm.yaml").write_text("time: '1:00:00'\npartition: cpu\n")
    options = {"tasks": 2, "executor": "slurm", "executor_config": tmp_path / "slurm.yaml"}
    with serve_answers(right) as server:
        run = prepared(seeds, tmp_path / "out", server.url, **PLAIN)
        assert synthesize(run, **options) is None
        assert rows(tmp_path / "out") == rows(tmp_path / "here"), "jobs cut into larger shards than this test"
        assert synthesize(run, **options) == read_manifest(tmp_path / "out", kind=KIND)
        assert server.asked_twice() == []


@pytest.mark.slow
def test_ray_gives_the_same_samples(here, tmp_path, kinds_importable):
    ray = pytest.importorskip("ray")
    seeds, _ = here
    (tmp_path / "ray.yaml").write_text("workers: 2\n")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        with serve_answers(right) as server:
            run = prepared(seeds, tmp_path / "out", server.url, **PLAIN)
            synthesize(run, tasks=2, executor="ray", executor_config=tmp_path / "ray.yaml")
    finally:
        ray.shutdown()
    assert rows(tmp_path / "out") == rows(tmp_path / "here")


@pytest.fixture
def kinds_importable(monkeypatch):
    """Jobs find the kind of these tests."""
    monkeypatch.setenv("PYTHONPATH", PATHS)
