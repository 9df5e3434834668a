"""Slurm and Ray: the jobs that datatrove renders run the same stages, in order, and continue where tasks failed.

Slurm is stood in for by scripts that answer to its commands and run the rendered job scripts. Ray is real, on one
machine.
"""

from functools import partial

import made_stages
import pytest

from data_recipes.errors import DataError
from data_recipes.executors.cluster import run_on_cluster
from data_recipes.executors.stage import Stage

pytest.importorskip("datatrove")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "slurm.yaml").write_text(
        "time: '1:00:00'\npartition: cpu\nmem_per_cpu_gb: 3\nsbatch_args: {account: lm}\n"
    )
    return tmp_path


def stages(place, **options):
    letters = partial(made_stages.write_letters, place / "out", **options)
    return [
        Stage("write letters", letters),
        Stage("join", partial(made_stages.join_letters, place / "out"), alone=True),
    ]


def on_slurm(place, tasks=2, **options):
    settings = {"executor": "slurm", "config": place / "slurm.yaml", "folder": place / "jobs"}
    return run_on_cluster(stages(place, **options), tasks=tasks, **settings)


def test_slurm_gets_an_array_job_a_stage_that_waits_for_the_one_before(place, slurm):
    assert on_slurm(place) is False
    assert (place / "out" / "joined").read_text() == "ABCDEFGHIJ"
    jobs = [path.read_text() for path in sorted(slurm.glob("job-*.sh"))]
    arrays = [job for job in jobs if "launch_pickled_pipeline" in job]
    assert len(arrays) == 2
    for line in ("--partition=cpu", "--time=1:00:00", "--mem-per-cpu=3G", "--account=lm", "--array=0-1"):
        assert f"#SBATCH {line}" in arrays[0]
    assert "#SBATCH --array=0-0" in arrays[1]
    submitted = (place / "jobs" / "jobs.txt").read_text().split()
    assert f"--dependency=afterok:{submitted[0]}" in (slurm / f"job-{submitted[1]}.arguments").read_text()
    assert on_slurm(place) is True, "given again, there is nothing left to do"
    assert len(list(slurm.glob("job-*.sh"))) == len(jobs)


def test_after_a_failed_task_only_what_is_not_done_is_submitted_again(place, slurm):
    assert on_slurm(place, fail_at="d") is False
    assert not (place / "out" / "joined").exists()
    assert "no text for d" in "".join(path.read_text() for path in slurm.glob("output-*"))
    (place / "out" / "mended").touch()
    assert on_slurm(place, fail_at="d") is False
    assert (place / "out" / "joined").read_text() == "ABCDEFGHIJ"
    arrays = [path.read_text() for path in slurm.glob("job-*.sh") if "launch_pickled" in path.read_text()]
    assert sum("--array=0-1" in job for job in arrays) == 1, "of the first stage one task was left"


def test_work_that_is_in_the_queue_is_not_submitted_twice(place, slurm):
    on_slurm(place, fail_at="d")
    job = (place / "jobs" / "jobs.txt").read_text().split()[0]
    (slurm / "queue").write_text(f"{job}\n")
    with pytest.raises(DataError, match=f"jobs {job} of this work are still in Slurm's queue"):
        on_slurm(place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time: '1:00:00'\n", "needs partition"),
        ("time: '1:00:00'\npartition: cpu\npartion: x\n", "Did you mean 'partition'"),
        ("time: '1:00:00'\npartition: cpu\ntasks: 5\n", "unknown setting 'tasks'"),
        ("- time\n", "expected settings"),
    ],
)
def test_settings_are_checked_before_anything_is_submitted(place, slurm, text, message):
    (place / "slurm.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        on_slurm(place)
    assert not list(slurm.iterdir())


def test_without_sbatch_the_machine_is_named_as_the_wrong_one(place, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DataError, match="there is no 'sbatch' here"):
        on_slurm(place)


@pytest.mark.slow
def test_ray_runs_the_stages_on_two_workers_and_continues_after_a_failure(place, tests_importable):
    ray = pytest.importorskip("ray")
    (place / "ray.yaml").write_text("workers: 2\n")
    settings = {"executor": "ray", "config": place / "ray.yaml", "folder": place / "jobs", "tasks": 4}
    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    try:
        with pytest.raises(DataError, match=r"1 of 4 tasks failed, the first is 3 \(ValueError: no text for d\)"):
            run_on_cluster(stages(place, fail_at="d"), **settings)
        assert not (place / "out" / "joined").exists()
        (place / "out" / "mended").touch()
        assert run_on_cluster(stages(place, fail_at="d"), **settings) is True
        assert (place / "out" / "joined").read_text() == "ABCDEFGHIJ"
    finally:
        ray.shutdown()
