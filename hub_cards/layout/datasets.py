"""Data sets as repos of Parquet: built phases, with all that `data restore` needs; generated and cleaned text."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import DataError
from data_recipes.manifest import MANIFEST_NAME, read_manifest
from data_recipes.packing.restore import DATA, TOKENIZER
from data_recipes.rows.layout import SOURCES_NAME
from data_recipes.rows.reader import PackedRows
from data_recipes.tokens.tokenizer import load_tokenizer, tokenizer_files
from hub_cards.cards.card import write_card
from hub_cards.cards.settings import CardSettings
from hub_cards.errors import HubError
from hub_cards.layout.parquet import write_phase
from hub_cards.layout.swap import Draft
from hub_cards.repos import files
from hub_cards.repos.machine_paths import without_machine_paths
from hub_cards.repos.run_files import RunFiles

YamlDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # several times as fast where libyaml is there
RECIPES = "recipes"
IDENTITY = ("fingerprint", "kind", "inputs", "config", "seed", "files")
# Where the kinds of generated and cleaned text have what they give on.
SAMPLES = {"synthetic-samples": "samples", "cleaned-text": "kept"}
CARDS = {"synthetic-samples": "synthetic", "cleaned-text": "cleaned"}


def phases_draft(
    folders: Sequence[Path],
    settings: CardSettings,
    *,
    run: RunFiles | None = None,
    tokenizer: str | None = None,
    progress: bool = False,
) -> Draft:
    """Built phases, one config each: rows, recipe, the manifest and what it takes to restore the rows for training.

    `run`: that they are of; else the folders' own parent. `tokenizer`: where it is now, if not where the phases were
    built with it.
    """
    if not folders:
        raise HubError("no built phase; finish the data stage first.")
    phases = [PackedRows(folder) for folder in folders]
    found = tokenizer_of(phases, tokenizer)
    place = run or RunFiles(folders[0].parent, data=".")
    configs = {phase.folder.name: f"{DATA}/{phase.folder.name}/*.parquet" for phase in phases}
    tokens = sum(phase.num_rows * phase.context_length for phase in phases)

    def write(repo: Path) -> Mapping[str, Any]:
        from tqdm import tqdm

        quiet = None if progress else True
        with tqdm(desc="rows", total=tokens, unit="tok", unit_scale=True, delay=1, disable=quiet) as bar:
            for phase in phases:
                write_phase(phase, repo / DATA / phase.folder.name, progress=bar)
                _write_origin(phase, repo, place.root)
        (repo / TOKENIZER).mkdir()
        for name, path in found.items():
            shutil.copyfile(path, repo / TOKENIZER / name)
        write_card(repo, replace(settings, configs=configs), place)
        return {}

    counts = {"phases": len(phases), "rows": sum(phase.num_rows for phase in phases), "tokens": tokens}
    inputs = {phase.folder.name: phase.fingerprint for phase in phases}
    kept = {"licence": settings.licence, "title": settings.title}
    return Draft(settings.repo_id, "dataset", inputs, write, settings=kept, run=run, counts=counts)


def samples_draft(folder: Path, settings: CardSettings) -> Draft:
    """What `data synthesize` or `data clean` gives on, as the one config of a data set."""
    manifest = read_manifest(folder)
    samples = folder / SAMPLES[manifest["kind"]]
    shards = sorted(samples.glob("*.parquet"))
    if not shards:
        raise HubError(f"{samples}: no Parquet file in it; there is nothing to publish.")
    settings = replace(settings, kind=CARDS[manifest["kind"]], configs={"default": f"{DATA}/*.parquet"})

    def write(repo: Path) -> Mapping[str, Any]:
        (repo / DATA).mkdir()
        known = {}
        for number, path in enumerate(shards):
            name = f"{DATA}/train-{number:05d}-of-{len(shards):05d}.parquet"
            files.link_or_copy(path, repo / name)
            record = manifest["files"].get(path.relative_to(folder).as_posix(), {})
            if "sha256" in record:
                known[name] = record
        write_card(repo, settings, RunFiles(folder.parent, data=folder.name))
        return known

    inputs = {folder.name: manifest["fingerprint"]}
    kept = {"licence": settings.licence, "title": settings.title}
    return Draft(settings.repo_id, "dataset", inputs, write, settings=kept, counts={"files": len(shards)})


def _write_origin(phase: PackedRows, repo: Path, run: Path) -> None:
    """The recipe, and beside the rows what `data restore` needs of the phase: its manifest, and the sources' names."""
    place = repo / DATA / phase.folder.name
    shutil.copyfile(phase.folder / SOURCES_NAME, place / SOURCES_NAME)
    # What the fingerprint covers names no folder of a machine, and stays as it is: a checkpoint knows the phase by it.
    manifest = {
        key: value if key in IDENTITY else json.loads(without_machine_paths(json.dumps(value), run))
        for key, value in phase.manifest.items()
    }
    (place / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if (recipe := manifest.get("recipe")) is not None:
        (repo / RECIPES).mkdir(exist_ok=True)
        text = yaml.dump(recipe, Dumper=YamlDumper, sort_keys=False, allow_unicode=True)
        (repo / RECIPES / f"{phase.folder.name}.yaml").write_text(text, encoding="utf-8")


def tokenizer_of(phases: Sequence[PackedRows], location: str | None) -> dict[str, Path]:
    """The files of the tokenizer that made all of the phases; `DataError` where they differ or it is not there."""
    entries = {phase.manifest["tokenizer"]["fingerprint"]: phase.manifest["tokenizer"] for phase in phases}
    if len(entries) > 1:
        raise DataError("the phases were built with different tokenizers; publish them one by one.")
    ((fingerprint, entry),) = entries.items()
    place = location or entry["location"]
    try:
        found = load_tokenizer(place).fingerprint
    except DataError as error:
        raise DataError(f"{error} It is published with the rows: say where it is with --tokenizer.") from error
    if found != fingerprint:
        raise DataError(f"{place}: not the tokenizer that made the phases. Name the right one with --tokenizer.")
    return tokenizer_files(place)
