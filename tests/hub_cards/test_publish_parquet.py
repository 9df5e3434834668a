"""The publishing form, the builder, statistics and verification of built phases."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_text import make_documents, write_jsonl

from data_recipes.errors import DataError
from data_recipes.packing import writer
from data_recipes.packing.build import build_phases
from data_recipes.packing.restore import restore_phases
from data_recipes.recipes.recipe import Recipe, Source, Subset
from data_recipes.rows.builder import PackedRowsBuilder
from data_recipes.rows.reader import PackedRows, load_phase
from data_recipes.rows.stats import phase_stats
from data_recipes.rows.verify import finished_folders, verify
from data_recipes.tokens.tokenizer import load_tokenizer as load_ids
from hub_cards.layout import parquet as publish_parquet
from hub_cards.layout.sources import phases_repo
from hub_cards.layout.swap import LaidOut, lay_out_draft
from yulanmini.report.pictures import draw_phase


def publish(folder: Path, out: Path, **options) -> LaidOut:
    return lay_out_draft(out, phases_repo(folder, out, repo_id="me/rows", **options))


@pytest.fixture(scope="module")
def phases(tmp_path_factory, tokenizer_dir) -> Path:
    """Two built phases of two domains below one folder."""
    place = tmp_path_factory.mktemp("phases")
    subsets = []
    for domain in ("web-en", "web-zh"):
        path = write_jsonl(place / f"{domain}.jsonl", make_documents(domain, 400))
        path.write_text(path.read_text() + "{broken\n")
        source = Source(path=str(path), licence="cc0-1.0")
        subsets.append(Subset(name=f"{domain} part", tokens=6400, domain=domain, source=source))
    recipes = [Recipe(name=f"p{phase}", phase=phase, context_length=64, subsets=tuple(subsets)) for phase in (1, 2)]
    options = {"tokenizer": tokenizer_dir, "store": place / "data" / "store", "progress": False}
    build_phases(recipes[:1], place / "data", **options)
    with pytest.MonkeyPatch.context() as patch:  # the second in several shards
        patch.setattr(writer, "SHARD_TOKENS", 4096)
        build_phases(recipes, place / "data", **options)
    return place / "data"


def test_published_rows_are_the_built_rows_with_names(phases, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(publish_parquet, "SHARD_BYTES", 6_000)
    assert publish(phases, tmp_path / "hub").written
    shards = sorted((tmp_path / "hub" / "data" / "phase-02").glob("*.parquet"))
    assert len(shards) > 1
    assert [pq.ParquetFile(shard).metadata.num_rows for shard in shards[:-1]] == [
        pq.ParquetFile(shards[0]).metadata.num_rows
    ] * (len(shards) - 1)
    read = datasets.load_dataset(str(tmp_path / "hub"), "phase-02", split="train", cache_dir=str(tmp_path / "cache"))
    built = PackedRows(phases / "phase-02")
    assert read["input_ids"][:] == built.rows(0, built.num_rows).input_ids.tolist()
    assert read[7]["subset"] == built.subset_names[built.rows(7, 8).subset_ids[0]]
    numbers, names = built.documents(7), read[7]["documents"]
    assert [(one["row"], one["start"], one["end"]) for one in numbers] == [
        (one["row"], one["start"], one["end"]) for one in names
    ]
    assert all(one["source"] == one["file"] == f"{read[7]['subset'].split()[0]}.jsonl" for one in names)
    assert read.features == datasets.Features.from_arrow_schema(writer.schema_of(64, pa.string()))


def test_what_is_published_gives_the_built_files_back_byte_for_byte(phases, tmp_path, monkeypatch):
    monkeypatch.setattr(publish_parquet, "SHARD_BYTES", 6_000)  # shards of another size than those built
    publish(phases, tmp_path / "hub")
    restored = restore_phases(tmp_path / "hub", tmp_path / "data")
    assert [folder.name for folder in restored] == ["phase-01", "phase-02"]
    for folder in restored:
        built = phases / folder.name
        assert verify(folder) == []
        assert PackedRows(folder).fingerprint == PackedRows(built).fingerprint
        for path in built.rglob("*"):
            if path.is_file() and path.name != "manifest.json":
                assert (folder / path.relative_to(built)).read_bytes() == path.read_bytes(), path
    assert str(phases.parent) not in (tmp_path / "hub" / "data" / "phase-01" / "manifest.json").read_text()
    assert load_ids(PackedRows(restored[0]).manifest["tokenizer"]["location"]).eos_id == 2
    # What is there is kept; a phase that is none is refused before anything is written.
    before = (restored[0] / "rows-00000.arrow").stat().st_ino
    restore_phases(tmp_path / "hub", tmp_path / "data", ["phase-01"])
    assert (restored[0] / "rows-00000.arrow").stat().st_ino == before
    with pytest.raises(DataError, match=r"no phase 'phase-3'\..* It has phase-01, phase-02"):
        restore_phases(tmp_path / "hub", tmp_path / "other", ["phase-01", "phase-3"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("harm", ["another row", "a file less", "an edited manifest", "an unknown source"])
def test_rows_that_are_not_those_built_are_not_restored(phases, tmp_path, harm):
    publish(phases / "phase-01", tmp_path / "hub")
    folder = tmp_path / "hub" / "data" / "phase-01"
    (shard,) = folder.glob("*.parquet")
    if harm == "another row":
        table = pq.read_table(shard)
        pq.write_table(table.take([1, 0, *range(2, table.num_rows)]), shard)
    elif harm == "a file less":
        shard.unlink()
    elif harm == "an unknown source":
        (folder / "sources.json").write_text((folder / "sources.json").read_text().replace("web-en", "web-no"))
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["rows-00000.arrow"]["sha256"] = "0" * 64
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError):
        restore_phases(tmp_path / "hub", tmp_path / "data")
    assert not (tmp_path / "data" / "phase-01").exists()


def test_published_shards_have_page_index_and_content_defined_chunks(phases, tmp_path):
    publish(phases / "phase-01", tmp_path / "hub")
    (shard,) = (tmp_path / "hub" / "data" / "phase-01").glob("*.parquet")
    group = pq.ParquetFile(shard).metadata.row_group(0)
    assert all(group.column(number).has_offset_index for number in range(group.num_columns))


def test_card_and_front_matter_come_from_the_manifests(phases, tmp_path):
    import datasets

    publish(phases, tmp_path / "hub", title="Little rows")
    _, front, body = (tmp_path / "hub" / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(front)
    assert [config["config_name"] for config in head["configs"]] == ["phase-01", "phase-02"]
    built = PackedRows(phases / "phase-01")
    info = datasets.load_dataset_builder(str(tmp_path / "hub"), "phase-01", cache_dir=str(tmp_path / "cache")).info
    assert info.splits["train"].num_examples == built.num_rows
    assert info.dataset_size == info.splits["train"].num_bytes > built.num_rows * 64 * 4
    files = (tmp_path / "hub" / "data" / "phase-01").glob("*.parquet")
    assert info.download_size == sum(path.stat().st_size for path in files)
    assert f"| phase-01 | 64 | {built.num_rows:,} | {built.num_rows * 64:,} |" in body
    assert "| web-en.jsonl | malformed JSON | 1 |" in body
    assert "cc0-1.0" in body
    assert (head["license"], head["language"]) == ("cc0-1.0", ["en", "zh"])
    assert "| en | 12,800 | 50.0% |" in body
    assert str(phases.parent) not in body


def test_builder_prepares_one_config_a_phase(phases, tmp_path):
    builder = PackedRowsBuilder(config_name="phase-01", data_dir=phases, cache_dir=str(tmp_path))
    builder.download_and_prepare()
    assert builder.as_dataset(split="train").to_list() == load_phase(phases / "phase-01").to_list()
    with pytest.raises(DataError, match=r"no phase 'phase-03'\. Built here: phase-01, phase-02"):
        PackedRowsBuilder(config_name="phase-03", data_dir=phases)


def test_stats_add_up_and_are_drawn(phases, tmp_path):
    stats = phase_stats(phases / "phase-01")
    assert stats["tokens"] == sum(entry["tokens"] for entry in stats["domains"].values())
    assert sum(stats["piece_lengths"].values()) == stats["pieces"] >= stats["documents"]
    assert stats["fill"] == 1.0
    assert stats["drops"] == {
        "web-en.jsonl": {"malformed JSON": 1},
        "web-zh.jsonl": {"malformed JSON": 1},
    }
    draw_phase(tmp_path / "stats.svg", stats)
    words = {element.text for element in ElementTree.parse(tmp_path / "stats.svg").iter()}
    assert {"Web, English", "web-en part", "<=64"} <= words


@pytest.fixture
def copied(phases, tmp_path) -> Path:
    import shutil

    shutil.copytree(phases, tmp_path / "data")
    return tmp_path / "data"


def test_sound_folders_verify(copied):
    assert [folder.name for folder in finished_folders(copied)][:2] == ["phase-01", "phase-02"]
    assert [verify(folder) for folder in finished_folders(copied)] == [[]] * len(finished_folders(copied))


@pytest.mark.parametrize("harm", ["flip a byte", "cut short", "remove", "add a shard", "damage the store"])
def test_damage_is_found_and_named(copied, harm):
    path = copied / "phase-01" / "rows-00000.arrow"
    if harm == "flip a byte":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(DataError, match="missing or cut short"):
            PackedRows(copied / "phase-01").rows(0, 1)
    elif harm == "remove":
        path.unlink()
    elif harm == "add a shard":
        path = path.with_name("rows-00001.arrow")
        path.write_bytes(b"")
    else:
        path = next((copied / "store").glob("web-en*/unit-00000.tokens"))
        path.write_bytes(b"\0" * path.stat().st_size)
    problems = [problem for folder in finished_folders(copied) for problem in verify(folder)]
    assert len(problems) == 1
    assert problems[0].startswith(str(path))


def test_counts_that_do_not_fit_the_rows_are_found(copied):
    path = copied / "phase-01" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["subsets"][0]["rows"] -= 1
    manifest["tokenizer"]["vocab_size"] = 50
    path.write_text(json.dumps(manifest))
    problems = verify(copied / "phase-01")
    assert any("the vocabulary has 50" in problem for problem in problems)
    assert any("subset web-en part: 100 rows, the manifest says 99" in problem for problem in problems)


@pytest.mark.parametrize("name", ["phase-01", "phase-02"])
def test_a_built_phase_is_read_by_datasets_alone(phases, tmp_path, name):
    import datasets

    built = load_phase(phases / name)
    assert len(list((phases / name).glob("rows-*.arrow"))) == (1 if name == "phase-01" else 4)
    loaded = datasets.load_dataset(str(phases / name), split="train", cache_dir=str(tmp_path))
    on_disk = datasets.load_from_disk(str(phases / name))["train"]
    assert loaded.to_list() == on_disk.to_list() == built.to_list()
    assert datasets.load_from_disk(str(phases / name / "train")).to_list() == built.to_list()
    streamed = datasets.load_dataset(str(phases / name), split="train", streaming=True)
    assert next(iter(streamed)) == built[0]


def test_the_tokenizer_goes_with_the_published_rows(phases, tmp_path, tokenizer_dir):
    from transformers import AutoTokenizer

    from data_recipes.tokens.tokenizer import load_tokenizer
    from hub_cards.checks.check import check_repo

    with pytest.raises(DataError, match=r"nowhere.*say where it is with --tokenizer"):
        publish(phases, tmp_path / "hub", tokenizer=str(tmp_path / "nowhere"))
    assert not (tmp_path / "hub").exists()
    publish(phases, tmp_path / "hub", tokenizer=str(tokenizer_dir))
    shipped = tmp_path / "hub" / "tokenizer"
    assert load_tokenizer(shipped).fingerprint == PackedRows(phases / "phase-01").manifest["tokenizer"]["fingerprint"]
    assert AutoTokenizer.from_pretrained(str(tmp_path / "hub"), subfolder="tokenizer").eos_token == "</s>"
    body = (tmp_path / "hub" / "README.md").read_text()
    assert f"is called `{tokenizer_dir.name}`" in body
    assert str(tokenizer_dir) not in body
    assert check_repo(tmp_path / "hub") == []
