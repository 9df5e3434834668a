"""Files of a repository as one document: their order, and the stage that joins what a run has kept."""

import json
import random

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline import join
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.pipeline.unit_files import write_record
from data_recipes.cleaning.repositories import cut, heading, imports_of, ordered
from data_recipes.errors import DataError
from data_recipes.reading import files as reading_files

PYTHON = {
    "pkg/__init__.py": "from .main import run\n",
    "pkg/main.py": "import os\nfrom pkg.tools.words import split\nfrom . import base\n",
    "pkg/tools/words.py": "from ..base import Base\n",
    "pkg/tools/__init__.py": "",
    "pkg/base.py": "import json\n",
    "a_first.py": "import pkg.main, sys\n",
}
C = {
    "src/a.c": '#include "b.h"\n#include <stdio.h>\n#include "util/c.h"\n',
    "src/b.h": '#include "d.h"\n',
    "include/util/c.h": "int c;\n",
    "src/d.h": "int d;\n",
}
SCRIPTS = {
    "app.js": "import {x} from './lib/x';\nconst y = require('./lib/y.js')\n",
    "lib/x.ts": "import z from '../z'\nimport fs from 'fs'\n",
    "lib/y.js": "",
    "z/index.js": "export default 1",
}


def order_of(files, order="dependency"):
    paths = list(files)
    random.Random(1).shuffle(paths)
    places = ordered(paths, [imports_of(path, files[path]) for path in paths], order)
    return [paths[place] for place in places]


def test_what_is_imported_comes_first():
    assert order_of(PYTHON) == [
        "pkg/base.py",
        "pkg/tools/words.py",
        "pkg/main.py",
        "a_first.py",
        "pkg/__init__.py",
        "pkg/tools/__init__.py",
    ]
    assert order_of(C) == ["include/util/c.h", "src/d.h", "src/b.h", "src/a.c"]
    assert order_of(SCRIPTS) == ["z/index.js", "lib/x.ts", "lib/y.js", "app.js"]
    assert order_of(PYTHON, "path") == sorted(PYTHON)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30), st.randoms())
def test_any_graph_gives_an_order_in_which_dependencies_come_first_but_in_circles(edges, random):
    paths = [f"f{n}.py" for n in range(10)]
    random.shuffle(paths)
    needs = {path: sorted({f"f{b}" for a, b in edges if f"f{a}.py" == path}) for path in paths}
    places = ordered(paths, [needs[path] for path in paths], "dependency")
    assert sorted(places) == list(range(10))
    names = [paths[place][:-3] for place in places]
    again = sorted(paths)
    assert names == [again[place][:-3] for place in ordered(again, [needs[path] for path in again], "dependency")]
    reached = {name: {name} for name in names}
    for _ in names:
        for name in names:
            for other in needs[f"{name}.py"]:
                reached[name] |= reached[other]
    for place, name in enumerate(names):
        for other in reached[name] - {name}:
            assert name in reached[other] or names.index(other) < place


def test_a_chain_longer_than_python_recurses():
    paths = [f"m{n}.py" for n in range(5000)]
    imports = [[f"m{n + 1}"] for n in range(5000)]
    assert ordered(paths, imports, "dependency")[0] == 4999


@given(st.lists(st.integers(0, 50)), st.integers(1, 60))
def test_cuts_hold_every_file_once_within_the_limit(lengths, longest):
    documents = cut(lengths, longest)
    assert [place for places in documents for place in places] == list(range(len(lengths)))
    assert all(len(places) == 1 or sum(lengths[place] for place in places) <= longest for places in documents)


def test_headings_are_comments_of_the_language():
    names = {"a.py": "# a.py\n", "a.c": "// a.c\n", "a.lua": "-- a.lua\n", "a.html": "<!-- a.html -->\n", "a": "# a\n"}
    assert {path: heading(path) for path in names} == names


PADDING = "value = 12_345\n" * 6  # less than 50 characters would be dropped
CONFIG = {"steps": [{"step": "code-rules"}], "join": {"by": "repo", "longest": 3_000}}


@pytest.fixture
def rows(tmp_path):
    """Rows of 12 repositories, their files far apart, and some files of none."""
    random.seed(3)
    found = [
        {"repo": f"r{repo}", "path": path, "text": f"# of r{repo}\n" + text + PADDING}
        for repo in range(12)
        for path, text in (PYTHON | C).items()
    ]
    found += [{"repo": None, "path": f"x{n}.py", "text": PADDING + f"x = {n}\n"} for n in range(5)]
    found += [{"repo": "r1", "path": "made.py", "text": "# @generated\n" + "x = 1\n" * 20}]
    random.shuffle(found)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def documents(out):
    return [row for path in sorted(out.glob("joined/*")) for row in pq.read_table(path).to_pylist()]


def run(rows, out, config=CONFIG, tasks=1):
    return clean(checked_config(config), parse_inputs([f"code={rows}"]), out, tasks=tasks)


def test_kept_files_become_one_document_a_repository(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(reading_files, "UNIT_BYTES", 8_000)
    manifest = run(rows, tmp_path / "out")
    found = documents(tmp_path / "out")
    assert manifest["counts"]["joined_documents"] == len(found)
    by_name = {row["repository"]: row for row in found if row["repository"]}
    assert len(by_name) == 12
    assert len(found) == 17
    row = by_name["r1"]
    assert [file["path"] for file in row["files"]] == order_of(PYTHON | C), "what was dropped is not there"
    assert row["text"].startswith("# pkg/base.py\n# of r1\nimport json\n")
    kept = pq.ParquetDataset(tmp_path / "out" / "kept").read().num_rows
    assert sum(len(row["files"]) for row in found) == kept
    lines = rows.read_text().splitlines()
    for row in found:
        for file in row["files"]:
            assert json.loads(lines[file["row"]])["text"] in row["text"]


def test_the_bytes_do_not_depend_on_tasks_and_a_flipped_one_is_made_again(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(reading_files, "UNIT_BYTES", 8_000)
    hashes = run(rows, tmp_path / "one")["files"]
    assert run(rows, tmp_path / "two", tasks=2)["files"] == hashes
    damaged = next(path for path in sorted((tmp_path / "one/joined").iterdir()))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert run(rows, tmp_path / "one")["files"] == hashes


def test_stopped_after_any_part_it_ends_with_the_same_bytes(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(reading_files, "UNIT_BYTES", 8_000)
    hashes = run(rows, tmp_path / "whole")["files"]

    class Stopped(BaseException):
        pass

    records = 2 * len(list((tmp_path / "whole/joined").iterdir()))
    assert records > 4
    for stop in (0, 2, records // 2, records - 1):
        left = [stop]

        def record_or_stop(*arguments, left=left, **values):
            left[0] -= 1
            if left[0] < 0:
                raise Stopped  # before a record, so that its file is there without one
            return write_record(*arguments, **values)

        with monkeypatch.context() as patch:
            patch.setattr(join, "write_record", record_or_stop)
            with pytest.raises(Stopped):
                run(rows, tmp_path / f"stopped-{stop}")
        assert run(rows, tmp_path / f"stopped-{stop}")["files"] == hashes


def test_settings_of_the_join_are_followed_and_its_folder_goes_with_it(rows, tmp_path):
    out = tmp_path / "out"
    run(rows, out)
    run(rows, out, CONFIG | {"join": {"by": "repo", "longest": 150, "order": "path", "headings": False}})
    cut_up = [row for row in documents(out) if row["repository"] == "r1"]
    assert len(cut_up) > 3
    assert [file["path"] for row in cut_up for file in row["files"]] == sorted(PYTHON | C)
    assert not any("// src" in row["text"] for row in cut_up)
    run(rows, out, {"steps": CONFIG["steps"]})
    assert not (out / "joined").exists()


def test_folders_of_plain_files_are_repositories(tmp_path):
    for name in ("one", "two"):
        for path, text in C.items():
            (tmp_path / "in" / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name / path).write_text(text + PADDING)
    clean(checked_config(CONFIG | {"join": {}}), parse_inputs([f"code={tmp_path / 'in'}"]), tmp_path / "out")
    assert [(row["repository"], len(row["files"])) for row in documents(tmp_path / "out")] == [("one", 4), ("two", 4)]
    with pytest.raises(DataError, match="has no columns"):
        run(tmp_path / "in", tmp_path / "other")


def test_a_column_that_is_not_there_is_refused(rows, tmp_path):
    with pytest.raises(DataError, match=r"no column 'repos'.*'repo'"):
        run(rows, tmp_path / "out", CONFIG | {"join": {"by": "repos"}})
    with pytest.raises(DataError, match="order"):
        checked_config(CONFIG | {"join": {"order": "size"}})
