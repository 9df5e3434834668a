"""A network that fails is no answer of the Hub: it is asked again, then the build stops, whatever `--missing` says."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_clients import point_at
from made_text import make_documents

from data_recipes.packing.build import build_phases
from data_recipes.reading.files import SourceMissing
from data_recipes.reading.hub import HubSupply
from data_recipes.reading.hub_answers import HubFailure
from data_recipes.recipes.recipe import Recipe, Source, Subset

TEXTS = make_documents("web-en", 300)


def parquet(texts: list[str]) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": texts}), stream, row_group_size=50)
    return stream.getvalue().to_pybytes()


TABLES = {"README.md": b"---\nlicense: mit\n---\n", "data/train-0.parquet": parquet(TEXTS)}
LINES = {"train.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()}


@pytest.fixture(autouse=True)
def _datasets(hub, waited):
    """One of Parquet with a card, one of JSON lines without."""
    hub.put("dataset", "a/tables", TABLES)
    hub.put("dataset", "a/lines", LINES)


def texts_of(source: Source) -> list[str]:
    return [text for batch in HubSupply.find(source).read_unit(0, Counter()) for text in batch.texts]


PLACES = ("api/datasets/a/tables", "tree", "README.md", "train-0.parquet")


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("fault", ["503", "404", "403", "401", "truncated"])
def test_a_failure_anywhere_is_no_missing_source(hub, fault, where):
    hub.breaks(fault, where=where)
    with pytest.raises(HubFailure, match=r"a/tables: cannot be .*--missing does not apply"):
        texts_of(Source(hub="a/tables"))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("fault", ["500", "truncated"])
def test_a_failure_that_passes_changes_nothing(hub, fault, where):
    broken = hub.breaks(fault, where=where, times=2)
    assert texts_of(Source(hub="a/tables")) == TEXTS
    assert broken.struck == 2


def test_no_answer_in_time_is_a_failure_that_may_pass(hub):
    hub.breaks("silence", times=2)
    assert texts_of(Source(hub="a/tables")) == TEXTS
    hub.breaks("silence")
    with pytest.raises(HubFailure, match=r"a/tables: cannot be loaded \(ReadTimeout: .*tried 4 times"):
        HubSupply.find(Source(hub="a/tables"))


def test_nobody_there_is_asked_again_with_longer_waits_and_then_stops(waited, monkeypatch):
    point_at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(HubFailure, match=r"a/tables: cannot be loaded \(ConnectError: .*tried 4 times\)"):
        HubSupply.find(Source(hub="a/tables"))
    assert waited == [1, 2, 4]


def test_the_hubs_own_time_to_wait_is_kept(hub, waited):
    hub.breaks("429", times=1, seconds=7)
    assert texts_of(Source(hub="a/lines")) == TEXTS
    assert 7 in waited


@pytest.mark.parametrize(
    ("fault", "where", "message"),
    [
        ("404 RepoNotFound", "", r"gone \(not found, or private\)"),
        ("401 RepoNotFound", "", r"gone \(not found, or private\)"),
        ("404 RevisionNotFound", "", r"gone \(no such revision\)"),
        ("401 GatedRepo", "train-0.parquet", r"gated \(accept its terms"),
        ("403 GatedRepo", "train-0.parquet", r"gated \(accept its terms"),
        ("403 GatedRepo", "", r"gated \(accept its terms"),
        ("403 message", "", r"forbidden \(no access with this token"),
        ("404 EntryNotFound", "train-0.parquet", r"cannot be loaded \(RemoteEntryNotFoundError"),
    ],
)
def test_what_the_hub_says_is_believed_at_once(hub, waited, fault, where, message):
    hub.breaks(fault, where=where)
    with pytest.raises(SourceMissing, match=rf"a/tables: {message}"):
        HubSupply.find(Source(hub="a/tables"))
    assert waited == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"config": "fr"}, "BuilderConfig 'fr' not found"),
        ({"split": "test"}, "Bad split: test"),
        ({"data_files": "data/*.csv"}, "No .supported. data files found"),
    ],
)
def test_what_a_repository_does_not_have_is_missing(waited, entry, message):
    with pytest.raises(SourceMissing, match=message):
        HubSupply.find(Source(hub="a/tables", **entry))
    assert waited == []


def test_an_earlier_commit_in_the_cache_never_stands_in_for_one_that_cannot_be_read(hub):
    import datasets
    from huggingface_hub import HfFileSystem

    datasets.load_dataset("a/tables", split="train")
    HfFileSystem.clear_instance_cache()
    hub.breaks("500", "tree")
    with pytest.raises(HubFailure, match="a/tables: cannot be loaded"):
        HubSupply.find(Source(hub="a/tables"))


def test_a_damaged_file_is_no_failure_of_the_network(hub):
    hub.put("dataset", "a/damaged", {"train-0.parquet": TABLES["data/train-0.parquet"][:-100]})
    with pytest.raises(HubFailure, match=r"a/damaged: cannot be read \(ArrowInvalid: .*may be damaged there"):
        HubSupply.find(Source(hub="a/damaged"))


def test_a_build_without_network_leaves_nothing_out(hub, tmp_path, tokenizer_dir):
    subsets = tuple(
        Subset(name=name, tokens=640, domain="web-en", source=Source(hub=name)) for name in ("a/lines", "a/tables")
    )
    mix = Recipe(name="mix", context_length=64, subsets=subsets)
    options = {"tokenizer": tokenizer_dir, "store": tmp_path / "store", "progress": False}
    for missing in ("skip", "substitute"):
        hub.breaks("503", where="api/datasets/a/tables")
        with pytest.raises(HubFailure, match="the Hub answered with status 503, tried 4 times"):
            build_phases([mix], tmp_path / "out", missing=missing, **options)
        assert not (tmp_path / "out" / "mix").exists()
    hub.heals()
    hub.breaks("404 RepoNotFound", where="api/datasets/a/tables")
    build_phases([mix], tmp_path / "out", missing="skip", **options)
    manifest = json.loads((tmp_path / "out" / "mix" / "manifest.json").read_text())
    assert [left["subset"] for left in manifest["config"]["missing"]] == ["a/tables"]
