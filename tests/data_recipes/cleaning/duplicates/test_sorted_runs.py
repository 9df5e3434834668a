"""Sorted files against one sort in memory, and what happens when they are damaged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.cleaning.duplicates import sorted_runs
from data_recipes.cleaning.duplicates.sorted_runs import (
    END,
    START,
    Run,
    ranges_of_hashes,
    ranges_of_records,
    read_range,
    write_run,
)
from data_recipes.errors import DataError

# Few different numbers, so that blocks begin amid equal ones, and the largest ones.
NUMBERS = st.sampled_from([0, 1, 2, 3, 1 << 32, 1 << 63, (1 << 64) - 1])
RECORDS = st.lists(st.tuples(NUMBERS, st.integers(0, 5), NUMBERS), max_size=40)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_runs, "BLOCK_RECORDS", 3)
    monkeypatch.setattr(sorted_runs, "RANGE_BYTES", 200)


def written(folder: Path, lists: list[list[tuple[int, int, int]]]) -> list[Path]:
    paths = [folder / str(number) for number in range(len(lists))]
    for path, records in zip(paths, lists, strict=True):
        write_run(path, list(np.array(records, dtype=np.uint64).reshape(-1, 3).T))
    return paths


@settings(max_examples=30)
@given(lists=st.lists(RECORDS, min_size=1, max_size=4))
def test_ranges_together_are_all_records_sorted(lists: list[list[tuple[int, int, int]]], tmp_path_factory) -> None:
    paths = written(tmp_path_factory.mktemp("runs"), lists)
    runs = [Run(path) for path in paths]
    expected = sorted(record for records in lists for record in records)
    for ranges in ([(START, END)], list(ranges_of_hashes(paths)), list(ranges_of_records(runs))):
        found = [tuple(record) for bounds in ranges for record in read_range(runs, *bounds).T.tolist()]
        assert found == expected


@settings(max_examples=50)
@given(records=RECORDS, low=st.tuples(NUMBERS, NUMBERS), high=st.tuples(NUMBERS, NUMBERS))
def test_a_range_is_what_lies_between_its_bounds(records, low, high, tmp_path_factory) -> None:
    run = Run(written(tmp_path_factory.mktemp("runs"), [records])[0])
    expected = sorted(record for record in records if low <= record[:2] < high)
    assert [tuple(record) for record in run.between(low, high).tolist()] == expected


def test_many_records_make_several_ranges(tmp_path: Path) -> None:
    numbers = np.arange(1000, dtype=np.uint64)
    write_run(tmp_path / "run", [numbers << np.uint64(54), numbers])
    assert len(ranges_of_hashes([tmp_path / "run"])) > 50
    sizes = [
        read_range([Run(tmp_path / "run")], *bounds).shape[1] for bounds in ranges_of_records([Run(tmp_path / "run")])
    ]
    assert sum(sizes) == 1000
    assert max(sizes) <= 30


def test_a_flipped_byte_anywhere_is_noticed_and_the_file_is_removed(tmp_path: Path) -> None:
    numbers = np.arange(7, dtype=np.uint64)
    path = tmp_path / "run"
    write_run(path, [numbers, numbers])
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match="Give the same command again"):
            Run(path).between(START, END)
        assert not path.exists()
    for damaged in (whole[:-1], whole[:5], b"", whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            Run(path)
    with pytest.raises(DataError, match="deleted"):
        Run(path)
