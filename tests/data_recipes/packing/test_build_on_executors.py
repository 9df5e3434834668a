"""A build by tasks of an executor gives the bytes of the plain build: whatever the number of tasks, killed in between,
and never from what somebody has changed or spoilt between two stages."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from multiprocessing import forkserver
from pathlib import Path

import pytest
from made_text import make_documents, write_jsonl

from data_recipes.errors import DataError
from data_recipes.files import only_process
from data_recipes.packing import on_executors
from data_recipes.packing import writer as row_writer
from data_recipes.packing.build import LOCK_NAME, build
from data_recipes.packing.job import Job, anywhere, job_of
from data_recipes.packing.on_executors import build_on, stages_of
from data_recipes.packing.request import BuildRequest
from data_recipes.reading import files as source_files
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.tokens import store as token_store

# Small units and shards, and one unit to begin with, so that a small build has many of each: here, and in every process
# that the tests start.
SMALL = """
from data_recipes.packing import on_executors, writer
from data_recipes.reading import files
from data_recipes.tokens import store
files.UNIT_BYTES, writer.SHARD_TOKENS, store.MEASURED_UNITS, on_executors.CHUNK_FILES = 10_000, 2_048, 1, 1
"""
# The first process of all that makes a unit, and the first that writes a shard, dies of it.
DEADLY = """
import os, signal
from pathlib import Path

def deadly(work, name):
    def once(*arguments):
        try:
            (Path(os.environ["DEATHS"]) / name).touch(exist_ok=False)
        except FileExistsError:
            return work(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return once

store.TokenStore.tokenise_unit = deadly(store.TokenStore.tokenise_unit, "unit")
on_executors.write_shard = deadly(on_executors.write_shard, "shard")
"""


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    (place / "sitecustomize.py").write_text(SMALL)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(source_files, "UNIT_BYTES", 10_000)
    monkeypatch.setattr(row_writer, "SHARD_TOKENS", 2_048)
    monkeypatch.setattr(token_store, "MEASURED_UNITS", 1)
    monkeypatch.setattr(on_executors, "CHUNK_FILES", 1)
    # The process that tasks are forked from is started once: not before this test, nor for those after it.
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Three sources; web-zh is small enough that the mixes go through it more than once."""
    folder = tmp_path_factory.mktemp("corpus")
    for domain, count in (("web-en", 700), ("web-zh", 40), ("code", 500)):
        write_jsonl(folder / f"{domain}.jsonl", make_documents(domain, count, longest=200))
    return folder


def recipes_of(corpus: Path) -> list[Recipe]:
    """Three mixes that continue each other, the last with longer rows, which prefers long documents; of one source that
    is not there others take the place."""
    subsets = tuple(
        Subset(name=name, tokens=6_000, domain=domain, source=Source(path=str(corpus / f"{name}.jsonl")))
        for name, domain in (("web-en", "web-en"), ("web-zh", "web-zh"), ("code", "code"), ("gone", "code"))
    )
    return [
        Recipe(name=f"p{phase}", phase=phase, context_length=length, subsets=subsets)
        for phase, length in ((24, 64), (25, 64), (26, 448))
    ]


def request_of(corpus: Path, tokenizer: Path, out: Path, packing: str = "concat") -> BuildRequest:
    return BuildRequest(
        recipes_of(corpus), out, tokenizer=tokenizer, seed=5, packing=packing, missing="substitute", progress=False
    )


def hashes(out: Path) -> dict[str, str]:
    """Every file of the phases and of the store by content."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in [*out.glob("phase-*"), *out.glob("store/*-*")]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def job_for(request: BuildRequest) -> Job:
    """A job whose stages a test runs one by one."""
    request = anywhere(request)
    request.out.mkdir()
    request.store_folder.mkdir()
    job = job_of(request, submitted=False)
    job.work.mkdir()
    return job


@pytest.fixture
def job(corpus, tokenizer_dir, tmp_path):
    """One whose sources nobody else reads."""
    own = shutil.copytree(corpus, tmp_path / "corpus")
    return job_for(request_of(own, tokenizer_dir, tmp_path / "out"))


def run(job, *, after: str | None = None, until: str | None = None, tasks: int = 2) -> None:
    """The stages behind `after`, up to and with `until`, task by task."""
    stages = stages_of(job)
    names = [stage.name for stage in stages]
    first = 0 if after is None else names.index(after) + 1
    last = len(names) if until is None else names.index(until) + 1
    for stage in stages[first:last]:
        for rank in range(1 if stage.alone else tasks):
            stage.run(rank, 1 if stage.alone else tasks)


@pytest.fixture(scope="module", params=["concat", "best_fit"])
def plain(request, corpus, tokenizer_dir, tmp_path_factory):
    """What the plain build makes: (packing, every file by content)."""
    out = tmp_path_factory.mktemp("plain") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_files, "UNIT_BYTES", 10_000)
        patch.setattr(row_writer, "SHARD_TOKENS", 2_048)
        patch.setattr(token_store, "MEASURED_UNITS", 1)
        build(request_of(corpus, tokenizer_dir, out, request.param))
    manifest = json.loads((out / "phase-26" / "manifest.json").read_text())
    assert max(source["epochs"] or 0 for source in manifest["sources"]) > 1
    assert [entry["action"] for entry in manifest["config"]["missing"]] == ["substituted"]
    found = hashes(out)
    assert sum(".arrow" in name for name in found) > 30
    assert sum(".tokens" in name for name in found) > 15
    return request.param, found


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_any_number_of_tasks_gives_the_bytes_of_the_plain_build(plain, corpus, tokenizer_dir, tmp_path, tasks):
    packing, expected = plain
    if tasks == (2 if packing == "concat" else 3):
        pytest.skip("takes seconds, and tells nothing that the other packing does not")
    request = request_of(corpus, tokenizer_dir, tmp_path / "out", packing)
    folders = build_on(request, executor="local", tasks=tasks)
    assert hashes(tmp_path / "out") == expected
    assert [folder.name for folder in folders] == ["phase-24", "phase-25", "phase-26"]
    assert build(request) == folders, "the plain build finds them finished"


SCRIPT = """
import sys
from pathlib import Path
from test_build_on_executors import request_of
from data_recipes.packing.on_executors import build_on
if __name__ == "__main__":
    corpus, tokenizer, out, packing = sys.argv[1:]
    build_on(request_of(Path(corpus), Path(tokenizer), Path(out), packing), executor="local", tasks=2)
"""


@pytest.mark.slow
def test_killed_at_many_moments_it_ends_with_the_same_bytes(plain, corpus, tokenizer_dir, tmp_path):
    packing, expected = plain
    out = tmp_path / "out"
    script = tmp_path / "build.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(here), str(here.parent)])

    def start() -> subprocess.Popen:
        command = [sys.executable, str(script), str(corpus), str(tokenizer_dir), str(out), packing]
        environment = os.environ | {"PYTHONPATH": paths}
        return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, start_new_session=True)

    kills = 0
    moments = (8, len(expected) // 2, len(expected)) if packing == "concat" else (len(expected) // 2,)
    for moment in moments:
        process = start()
        while process.poll() is None and sum(len(names) for _, _, names in os.walk(out)) < moment:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)  # the command and all of its tasks
        kills += process.wait() == -signal.SIGKILL
    assert kills >= len(moments) - 1
    process = start()
    assert process.wait() == 0, process.stderr.read().decode()
    assert hashes(out) == expected


def test_a_folder_that_is_gone_is_made_again_though_its_tasks_are_marked_as_done(
    plain, corpus, tokenizer_dir, tmp_path
):
    packing, expected = plain
    request = request_of(corpus, tokenizer_dir, tmp_path / "out", packing)
    build_on(request, executor="local", tasks=1)
    assert job_of(anywhere(request), submitted=False).attempt == 0
    shutil.rmtree(tmp_path / "out" / "phase-25")
    build_on(request, executor="local", tasks=1)
    assert hashes(tmp_path / "out") == expected
    assert job_of(anywhere(request), submitted=False).attempt == 1, "marks of another folder"


def build_that_dies_twice(request: BuildRequest, monkeypatch, place: Path, **options) -> None:
    """With a task killed where it makes a unit, one where it writes a shard, and the command given again each time."""
    deaths = place / "deaths"
    (place / "site").mkdir()
    deaths.mkdir()
    (place / "site" / "sitecustomize.py").write_text(SMALL + DEADLY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place / "site"), os.environ["PYTHONPATH"]]))
    monkeypatch.setenv("DEATHS", str(deaths))
    with running_ray() if options["executor"] == "ray" else nullcontext():
        for stage, died in (("measure", "unit"), ("rows", "shard")):
            with pytest.raises(DataError, match=rf"stage '{stage}'.* killed \(signal 9\)"):
                build_on(request, **options)
            assert (deaths / died).exists()
        assert build_on(request, **options) is not None
        assert build_on(request, **options) is not None, "given again, there is nothing left to do"


@contextmanager
def running_ray():
    """Ray on this machine, whose processes see the environment of now."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_killed_tasks_are_named_and_the_command_given_again_ends_with_the_same_bytes(
    plain, corpus, tokenizer_dir, tmp_path, monkeypatch, executor
):
    packing, expected = plain
    if executor == "ray":
        pytest.importorskip("datatrove")
    (tmp_path / "ray.yaml").write_text("workers: 2\n")
    config = tmp_path / "ray.yaml" if executor == "ray" else None
    request = request_of(corpus, tokenizer_dir, tmp_path / "out", packing)
    build_that_dies_twice(request, monkeypatch, tmp_path, executor=executor, tasks=2, executor_config=config)
    assert hashes(tmp_path / "out") == expected


@pytest.fixture
def on_slurm(tmp_path, slurm):
    """What `build_on` takes to build on the stand-in for Slurm."""
    pytest.importorskip("datatrove")
    config = tmp_path / "slurm.yaml"
    config.write_text("time: '1:00:00'\npartition: cpu\nmem_per_cpu_gb: 4\n")
    return {"executor": "slurm", "tasks": 2, "executor_config": config}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_slurm_gives_the_same_bytes_and_is_asked_again_how_far_it_is(plain, corpus, tokenizer_dir, tmp_path, on_slurm):
    packing, expected = plain
    request = request_of(corpus, tokenizer_dir, tmp_path / "out", packing)
    assert build_on(request, **on_slurm) is None, "handed over"
    assert hashes(tmp_path / "out") == expected
    assert [folder.name for folder in build_on(request, **on_slurm)] == ["phase-24", "phase-25", "phase-26"]


WAITING = """#!/bin/bash
number=$(( $(ls "$FAKE_SLURM" | grep -c "^job") + 1 ))
cp "${@: -1}" "$FAKE_SLURM/job-$(printf %02d $number)"
echo "$@" > "$FAKE_SLURM/arguments-$number"
echo "Submitted batch job $number"
"""


def test_slurm_gets_an_array_job_a_stage_and_no_other_build_writes_meanwhile(
    corpus, tokenizer_dir, tmp_path, slurm, on_slurm
):
    # Jobs that wait: nothing of them runs.
    (tmp_path / "bin" / "sbatch").write_text(WAITING)
    request = request_of(corpus, tokenizer_dir, tmp_path / "out")
    assert build_on(request, **on_slurm) is None
    scripts = [path.read_text() for path in sorted(slurm.glob("job-*")) if "launch_pickled" in path.read_text()]
    stages = stages_of(job_of(anywhere(request), submitted=True))
    assert len(scripts) == len(stages) == 12
    for script, stage in zip(scripts, stages, strict=True):
        assert f"#SBATCH --job-name=yulanmini-{stage.name.replace(' ', '-')}" in script
        assert f"#SBATCH --array=0-{0 if stage.alone else 1}" in script
        for line in ("--partition=cpu", "--time=1:00:00", "--mem-per-cpu=4G"):
            assert f"#SBATCH {line}" in script
    jobs = next(tmp_path.glob("out/work/jobs/*/jobs.txt")).read_text().split()
    assert len(jobs) == len(stages)
    for before, number in pairwise(jobs):
        assert f"--dependency=afterok:{before}" in (slurm / f"arguments-{number}").read_text()
    (slurm / "queue").write_text("\n".join(jobs))
    for call in (lambda: build(request), lambda: build_on(request, executor="local", tasks=1)):
        with pytest.raises(DataError, match="still in Slurm's queue"):
            call()


def test_more_units_than_needed_change_no_row(plain, corpus, tokenizer_dir, tmp_path):
    packing, expected = plain
    store = tmp_path / "store"
    request = replace(request_of(corpus, tokenizer_dir, tmp_path / "out", packing), store=store)
    many = [recipe.model_copy(update={"name": "many"}).scaled(scale=12) for recipe in request.recipes[:1]]
    build(replace(request, recipes=many, out=tmp_path / "many"))
    assert len(list(store.glob("*/*.tokens"))) > sum(".tokens" in name for name in expected)
    build_on(request, executor="local", tasks=1)
    assert hashes(tmp_path / "out") == {name: one for name, one in expected.items() if name.startswith("phase")}


def test_a_source_that_changes_between_stages_is_refused(job):
    run(job, until="measure")
    path = Path(job.request.recipes[0].subsets[0].source.path)
    text = path.read_text()
    path.write_text(text.replace("fox", "dog", 1))
    with pytest.raises(DataError, match=r"web-en\.jsonl: its files changed while this build was running"):
        run(job, after="measure")
    path.write_text(text)
    run(job)
    assert (job.request.out / "phase-26" / "manifest.json").is_file()


def test_a_source_that_changes_while_units_are_made_is_refused(job):
    run(job, until="units to fill")
    path = Path(job.request.recipes[0].subsets[0].source.path)
    path.write_text(path.read_text().replace("fox", "dog"))
    with pytest.raises(DataError, match=r"web-en\.jsonl: changed since this command began"):
        run(job, after="units to fill", until="fill")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = [
    ("plan rows", "rows", "store/web-zh*/unit-00000.tokens", r"unit-00000\.tokens: its content is not what was"),
    ("plan rows", "rows", "work/plan/phase-25.json", r"phase-25\.json: missing or damaged"),
    ("rows", "check rows", ".phase-25.partial/rows-00003.arrow", r"rows-00003\.arrow: it is missing or not what was"),
    ("rows", "check rows", ".phase-25.partial/.rows-00003.arrow.json", "it or its record is missing or not"),
    ("check rows", "finish", ".phase-26.partial/.rows-00000.arrow.json", "it or its record is missing or not"),
]


def test_what_is_damaged_between_two_stages_is_found_and_made_again(plain, corpus, tokenizer_dir, tmp_path):
    packing, expected = plain
    job = job_for(request_of(corpus, tokenizer_dir, tmp_path / "out", packing))
    for after, until, pattern, message in DAMAGE:
        run(job, until=after)
        (path,) = job.request.out.glob(pattern)
        flip(path)
        with pytest.raises(DataError, match=message):
            run(job, after=after, until=until)
        assert job_of(job.request, submitted=False).attempt == 1, "no mark of a finished task counts any more"
    run(job)
    assert hashes(job.request.out) == expected


def test_two_commands_do_not_build_into_one_folder(corpus, tokenizer_dir, tmp_path):
    request = request_of(corpus, tokenizer_dir, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "claim.json").write_text(json.dumps({"kind": "packed-phases", "made_from": {}}))
    with only_process(tmp_path / "out" / LOCK_NAME, DataError("held")):
        for call in (lambda: build(request), lambda: build_on(request, executor="local", tasks=1)):
            with pytest.raises(DataError, match="another build is writing here"):
                call()
    job = job_of(anywhere(request), submitted=True)
    job.work.mkdir()
    with only_process(tmp_path / "out" / LOCK_NAME, DataError("held"), among_others=True):  # as tasks of Slurm do
        stages_of(job)[0].run(0, 1)
        with pytest.raises(DataError, match="another build is writing here"):
            build(request)
