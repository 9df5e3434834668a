"""A cleaning run on Slurm, on Ray, or as steps of datatrove's own executor gives the bytes of one on this machine."""

import json
from pathlib import Path

import planted_steps  # noqa: F401  the config names its steps
import pytest

from data_recipes.cleaning.clean import clean, stages_of
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.pipeline.run import Run
from data_recipes.executors.cluster import StageStep
from data_recipes.manifest import MANIFEST_NAME

pytest.importorskip("datatrove")
STEPS = [{"step": "planted-count", "fewest": 3}, {"step": "planted-twins"}, {"step": "planted-costly", "fewest": 4}]


@pytest.fixture
def job(tmp_path):
    """Config, inputs (each source has a unit of its own), and what a run on this machine makes of them."""
    for name in "abcd":
        rows = [{"text": f"document {n % 60} of a few words in {name if n % 3 else 'both'}"} for n in range(100)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = checked_config({"steps": STEPS})
    inputs = parse_inputs([str(tmp_path / f"{name}.jsonl") for name in "abcd"])
    clean(config, inputs, tmp_path / "here")
    return config, inputs, files(tmp_path / "here")


def files(out: Path) -> dict[str, bytes]:
    """What a run gives out, byte by byte."""
    names = [*out.glob("kept/*"), *out.glob("dropped/*"), out / "summary.json", out / MANIFEST_NAME]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in names}


@pytest.mark.slow
def test_slurm_gives_the_same_bytes_and_is_asked_again_how_far_it_is(job, tmp_path, slurm):
    config, inputs, here = job
    assert sum(name.startswith("kept/") for name in here) > 3, "several units, so that tasks have shares"
    (tmp_path / "slurm.yaml").write_text("time: '1:00:00'\npartition: cpu\n")
    options = {"tasks": 2, "executor": "slurm", "executor_config": tmp_path / "slurm.yaml"}
    assert clean(config, inputs, tmp_path / "out", **options) is None
    assert files(tmp_path / "out") == here
    manifest = clean(config, inputs, tmp_path / "out", **options)
    assert manifest == json.loads(here[MANIFEST_NAME])


def test_the_stages_are_steps_for_datatroves_own_local_executor(job, tmp_path):
    from datatrove.executor import LocalPipelineExecutor

    config, inputs, here = job
    out = tmp_path / "out"
    out.mkdir()
    for number, stage in enumerate(stages_of(Run(config, tuple(inputs), out))):
        logs = str(tmp_path / "logs" / str(number))
        LocalPipelineExecutor([StageStep(stage)], tasks=1 if stage.alone else 3, workers=1, logging_dir=logs).run()
    assert files(out) == here


@pytest.mark.slow
def test_ray_gives_the_same_bytes(job, tmp_path, tests_importable):
    ray = pytest.importorskip("ray")
    config, inputs, here = job
    (tmp_path / "ray.yaml").write_text("workers: 2\n")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        clean(config, inputs, tmp_path / "out", tasks=2, executor="ray", executor_config=tmp_path / "ray.yaml")
    finally:
        ray.shutdown()
    assert files(tmp_path / "out") == here
