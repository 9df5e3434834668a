"""Hub datasets in part: files in an order by the seed, side by side, continued where another run stopped."""

import json
import shutil
from collections import Counter
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_text import make_documents

from data_recipes.packing.build import build_phases
from data_recipes.reading import hub as hub_module
from data_recipes.reading import hub_shards
from data_recipes.reading.hub import HubSupply
from data_recipes.reading.hub_answers import HubFailure
from data_recipes.reading.opening import fetch_documents
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.reader import PackedRows

# Files as of crawls, one a year, of different sizes: 7, 14, ... rows.
TEXTS = [[f"{year}-{text}" for text in make_documents("web-en", 7 * year)] for year in range(1, 24)]


def parquet(texts: list[str]) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), stream, row_group_size=5)
    return stream.getvalue().to_pybytes()


DATASETS = {
    "a/crawls": {f"data/{year:02d}.parquet": parquet(texts) for year, texts in enumerate(TEXTS, 1)},
    "a/lines": {
        f"{year:02d}.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        for year, texts in enumerate(TEXTS, 1)
    },
    "a/one": {"all.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS[-1]).encode()},
}


@pytest.fixture(autouse=True)
def _datasets(hub, waited, monkeypatch):
    for name, files in DATASETS.items():
        hub.put("dataset", name, files)
    monkeypatch.setattr(hub_module, "UNIT_ROWS", 20)
    monkeypatch.setattr(hub_module, "STREAMS", 3)
    monkeypatch.setattr(hub_shards, "CHUNK_ROWS", 6)


def read(supply: HubSupply, numbers) -> list[list[tuple[int, int, str]]]:
    units = []
    for number in numbers:
        found = list(supply.read_unit(number, Counter()))
        units.append(
            [one for batch in found for one in zip(batch.files.tolist(), batch.rows.tolist(), batch.texts, strict=True)]
        )
    return units


def read_all(supply: HubSupply) -> list[list[tuple[int, int, str]]]:
    units: list = []
    while supply.unit_count is None or len(units) < supply.unit_count:
        units += read(supply, [len(units)])
    return units


@pytest.mark.parametrize("name", ["a/crawls", "a/lines", "a/one"])
def test_every_row_comes_once_and_says_where_it_is_from(name):
    source = Source(hub=name)
    supply = HubSupply.find(source, seed=5)
    units = read_all(supply)
    files = [
        supply.file_names[file].removeprefix(f"{name}@{supply.revision}/") for unit in units for file, _, _ in unit
    ]
    assert set(files) <= set(DATASETS[name])
    rows = [
        (file, row, text) for file, (_, row, text) in zip(files, (one for unit in units for one in unit), strict=True)
    ]
    expected = [
        (file, row, text)
        for year, texts in enumerate(TEXTS, 1)
        for row, text in enumerate(texts)
        for file in (next((one for one in DATASETS[name] if f"{year:02d}." in one), "all.jsonl"),)
    ]
    if name == "a/one":
        expected = [("all.jsonl", row, text) for row, text in enumerate(TEXTS[-1])]
    assert sorted(rows) == sorted(expected)
    file, row, text = rows[-1]
    entry = {"entry": source.model_dump(), "location": None, "revision": supply.revision}
    assert fetch_documents(entry, f"{name}@{supply.revision}/{file}", [row]) == {row: text}


def test_the_order_of_the_files_follows_from_the_seed():
    orders = []
    for seed in (1, 1, 2):
        units = read(HubSupply.find(Source(hub="a/crawls"), seed=seed), range(12))
        orders.append([file for unit in units for file, _, _ in unit])
    assert orders[0] == orders[1] != orders[2]
    # A small part is of many years, not of the first.
    assert len(set(orders[0])) >= 4
    assert sum(orders[0]) / len(orders[0]) > 4


@pytest.mark.parametrize("name", ["a/crawls", "a/lines"])
def test_any_unit_is_continued_from_the_record_of_the_one_before(hub, name):
    source = Source(hub=name)
    supply = HubSupply.find(source, seed=5)
    units = read_all(supply)
    places = [json.loads(json.dumps(supply.place_after(number))) for number in range(len(units))]
    files = {f"{name}@{supply.revision}/{path}" for path in DATASETS[name]}
    assert files == set(supply.file_names)
    for stopped in (1, 4, 11, len(units) - 1):
        later = HubSupply.find(source, seed=5)
        for number in range(stopped):
            later.continue_after(number, places[number])
        hub.requests.clear()
        assert read(later, [stopped]) == [units[stopped]]
        # What was read before is not fetched again: only the files that the unit's rows are in.
        fetched = {one.path.rpartition("/")[2] for one in hub.requests if one.endpoint == "resolve"}
        held = {later.file_names[file].rpartition("/")[2] for file, _, _ in units[stopped]}
        assert len(fetched - held) <= 2
    complete = HubSupply.find(source, seed=5)
    for number, place in enumerate(places):
        complete.continue_after(number, place)
    assert complete.unit_count == len(units)


def test_a_unit_that_is_given_up_is_read_again_and_a_later_one_is_found():
    supply = HubSupply.find(Source(hub="a/crawls"), seed=5)
    units = read_all(supply)
    again = HubSupply.find(Source(hub="a/crawls"), seed=5)
    next(again.read_unit(3, Counter()))  # as when its first batch shows that the encoder is wrong
    assert read(again, [3, 3, 9, 0]) == [units[3], units[3], units[9], units[0]]


def test_the_network_may_fail_in_the_middle(hub):
    expected = read_all(HubSupply.find(Source(hub="a/crawls"), seed=5))
    supply = HubSupply.find(Source(hub="a/crawls"), seed=5)
    units = read(supply, range(3))
    for fault in ("truncated", "500"):
        broken = hub.breaks(fault, "resolve", times=4)
        units += read(supply, range(len(units), len(units) + 9))
        assert broken.struck == 4
    assert units == expected[: len(units)]
    hub.breaks("503", "resolve")
    with pytest.raises(HubFailure, match=r"a/crawls: cannot be .*503, tried 4 times"):
        read(supply, range(len(units), len(units) + 9))


def recipe(tokens: int) -> Recipe:
    subsets = tuple(Subset(name=name[2:], tokens=tokens, source=Source(hub=name)) for name in ("a/crawls", "a/lines"))
    return Recipe(name="mix", context_length=64, subsets=subsets)


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_bytes_for_any_number_of_workers_and_after_failures(hub, tmp_path, tokenizer_dir, monkeypatch):
    """Two epochs, so that the last unit is reached; the broken network stops the build at many moments."""
    monkeypatch.setattr(hub_module, "UNIT_ROWS", 100)

    def build(out: str, workers: int) -> dict[str, bytes]:
        place = tmp_path / out
        build_phases(
            [recipe(400_000)], place, tokenizer=tokenizer_dir, store=place / "store", workers=workers, progress=False
        )
        return contents(place)

    expected = build("one", 1)
    assert PackedRows(tmp_path / "one" / "mix").manifest["subsets"][0]["epochs"] > 1
    assert build("four", 4) == expected
    stops = 0
    for answered in (25, 45):
        hub.heals()
        hub.breaks("503", "resolve", after=answered)
        try:
            build("stopped", 2)
        except HubFailure:
            stops += 1
    assert stops
    hub.heals()
    assert build("stopped", 3) == expected


def test_the_cache_gives_the_same_rows_offline(monkeypatch, tmp_path):
    import datasets
    from huggingface_hub import constants

    online = HubSupply.find(Source(hub="a/crawls"), seed=5)
    expected = read_all(online)
    datasets.load_dataset("a/crawls", split="train")
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    offline = HubSupply.find(Source(hub="a/crawls"), seed=5)
    assert (offline.fingerprint, offline.file_names) == (online.fingerprint, online.file_names)
    assert read_all(offline) == expected
    # Without the files there is only the table that was made of them: other units, never taken for the same.
    shutil.rmtree(tmp_path / "hub")
    table = HubSupply.find(Source(hub="a/crawls"), seed=5)
    assert table.fingerprint != online.fingerprint
    assert table.unit_count == sum(map(len, TEXTS)) // 20 + 1
    assert [text for unit in read_all(table) for _, _, text in unit] == [text for texts in TEXTS for text in texts]
    assert read(table, [7]) == [
        [(0, row, text) for row, text in enumerate(chain.from_iterable(TEXTS)) if 140 <= row < 160]
    ]
