"""Hub datasets fetched to files: only what a build needs, checked, continued, and the same bytes whoever builds."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_text import make_documents

from data_recipes.errors import DataError
from data_recipes.packing.build import build, claim_places
from data_recipes.packing.job import anywhere, job_of
from data_recipes.packing.on_executors import build_on, stages_of
from data_recipes.packing.request import BuildRequest
from data_recipes.reading import files as source_files
from data_recipes.reading.opening import fetch_documents
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows
from data_recipes.tokens import store as token_store

# As of crawls, one a year, of different sizes.
TEXTS = [[f"{year}-{text}" for text in make_documents("web-en", 6 * year)] for year in range(1, 15)]


def parquet(texts: list[str]) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), stream, row_group_size=9)
    return stream.getvalue().to_pybytes()


def lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


DATASETS = {
    "a/crawls": {f"data/{year:02d}.parquet": parquet(texts) for year, texts in enumerate(TEXTS, 1)},
    "a/lines": {f"{year:02d}.jsonl": lines(texts) for year, texts in enumerate(TEXTS, 1)},
}


@pytest.fixture(autouse=True)
def _datasets(hub, waited, monkeypatch):
    for name, files in DATASETS.items():
        hub.put("dataset", name, {**files, "README.md": b"# Texts\n", "other/notes.csv": b"text\nno\n"})
    monkeypatch.setattr(source_files, "UNIT_BYTES", 4_000)
    monkeypatch.setattr(token_store, "MEASURED_UNITS", 1)


def request_of(out: Path, tokenizer: Path, *, tokens: int = 4_000, **options) -> BuildRequest:
    files = {"a/crawls": ("data/*.parquet",), "a/lines": ("*.jsonl",)}
    subsets = tuple(
        Subset(name=hub, tokens=tokens, domain="web-en", source=Source(hub=hub, data_files=files[hub])) for hub in files
    )
    recipes = [Recipe(name=f"p{phase}", phase=phase, context_length=64, subsets=subsets) for phase in (1, 2)]
    return BuildRequest(recipes, out, tokenizer=tokenizer, seed=3, progress=False, **options)


def hashes(out: Path, *, of: str = "phase-*/**/*") -> dict[str, str]:
    """The files of the phases by content; the manifests without the folder that the data was fetched to."""
    found = {}
    for path in sorted(out.glob(of)):
        if path.is_file():
            content = path.read_bytes().replace(str(out).encode(), b"OUT")
            found[path.relative_to(out).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def run_stages_of(request: BuildRequest, tasks: int = 3) -> None:
    """All stages of a job, task by task."""
    request = anywhere(request)
    claim_places(request)
    job = job_of(request, submitted=False)
    job.work.mkdir(exist_ok=True)
    for stage in stages_of(job):
        for rank in range(1 if stage.alone else tasks):
            stage.run(rank, 1 if stage.alone else tasks)


def fetched(out: Path) -> set[str]:
    return {path.name for path in out.glob("fetched/*/*/**/*.*") if ".cache" not in str(path) and ".f" not in str(path)}


def test_tasks_and_the_plain_build_read_the_same_files_and_only_those_needed(hub, tokenizer_dir, tmp_path):
    out = tmp_path / "plain" / "out"
    build(request_of(out, tokenizer_dir, fetched=out / "fetched"))
    names = fetched(out)
    assert {"parquet", "jsonl"} == {name.partition(".")[2] for name in names}
    assert 4 <= len(names) < 20, "of 28"
    other = tmp_path / "tasks" / "out"
    run_stages_of(request_of(other, tokenizer_dir))
    assert hashes(other) == hashes(out)
    assert fetched(other) == names
    # Once there, nobody asks the Hub; given without --fetched, the build reads what is there.
    hub.down = True
    assert build(request_of(other, tokenizer_dir)) == [other / "phase-01", other / "phase-02"]
    rows = PackedRows(out / "phase-01")
    entry = next(one for one in rows.manifest["sources"] if one["name"].startswith("a/lines"))
    piece = next(one for one in rows.documents(0) + rows.documents(1) if one["file"] is not None)
    tables = json.loads((out / "phase-01" / "sources.json").read_text())
    number = next(number for number, table in enumerate(tables) if table["name"] == entry["name"])
    file = tables[number]["files"][0]
    year = int(file.rpartition("/")[2].partition(".")[0])
    assert fetch_documents(entry, file, [2]) == {2: TEXTS[year - 1][2]}
    assert piece


def test_a_hub_that_fails_in_between_is_asked_again_only_for_what_is_not_there(hub, tokenizer_dir, tmp_path):
    request = request_of(tmp_path / "whole", tokenizer_dir)
    run_stages_of(request)
    out = tmp_path / "out"
    hub.breaks("drop", "resolve", after=20)
    with pytest.raises(DataError, match="cannot be loaded"):
        build_on(request_of(out, tokenizer_dir), executor="local", tasks=1)
    there = fetched(out)
    assert there
    hub.heals()
    hub.requests.clear()
    build_on(request_of(out, tokenizer_dir), executor="local", tasks=1)
    asked = {one.path.rpartition("/")[2] for one in hub.requests if one.endpoint == "resolve"}
    assert asked == fetched(out) - there
    assert hashes(out) == hashes(tmp_path / "whole")


def test_the_commit_that_was_listed_is_read_whatever_is_committed_later(hub, tokenizer_dir, tmp_path):
    out = tmp_path / "out"
    build(request_of(out, tokenizer_dir, fetched=out / "fetched"))
    first, fewer = hashes(out), len(fetched(out))
    hub.put("dataset", "a/lines", dict.fromkeys(DATASETS["a/lines"], b'{"text": "new"}\n'))
    more = replace(request_of(out, tokenizer_dir, tokens=15_000), out=tmp_path / "more", fetched=out / "fetched")
    build(replace(more, store=out / "store"))
    assert len(fetched(out)) > fewer
    # With more files and units than it needs, a build has the rows that it had.
    again = replace(request_of(tmp_path / "again", tokenizer_dir), fetched=out / "fetched", store=out / "store")
    build(again)
    rows = {name: one for name, one in first.items() if "manifest" not in name}
    assert {name: one for name, one in hashes(tmp_path / "again").items() if "manifest" not in name} == rows
    manifests = [json.loads((folder / "phase-02" / "manifest.json").read_text()) for folder in (out, again.out)]
    assert manifests[0] == manifests[1]


def test_a_fetched_file_that_was_changed_is_not_read(hub, tokenizer_dir, tmp_path):
    out = tmp_path / "out"
    request = request_of(out, tokenizer_dir, fetched=out / "fetched")
    build(request)
    expected = hashes(out)
    path = next(out.glob("fetched/a--lines/*/*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b"fox", b"dog"))
    for folder in ("phase-01", "phase-02", "store"):
        for each in sorted((out / folder).rglob("*"), reverse=True):
            each.unlink() if each.is_file() else each.rmdir()
        (out / folder).rmdir()
    with pytest.raises(DataError, match="what came is not the file that the Hub names there"):
        build(request)
    build(request)
    assert hashes(out) == expected


def test_files_of_a_strange_form_are_refused_with_the_way_out(tokenizer_dir, tmp_path):
    subset = Subset(name="notes", tokens=640, domain="code", source=Source(hub="a/lines", data_files="other/*.csv"))
    recipe = Recipe(name="mine", context_length=64, subsets=(subset,))
    request = BuildRequest(
        [recipe], tmp_path / "out", tokenizer=tokenizer_dir, fetched=tmp_path / "fetched", progress=False
    )
    with pytest.raises(DataError, match=r"notes\.csv cannot be read as a fetched file.*without --fetched"):
        build(request)
