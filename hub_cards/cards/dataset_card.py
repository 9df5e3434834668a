"""Cards of datasets, of a run's data and of built phases by themselves: every figure is from the phases' manifests."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from data_recipes.packing.writer import schema_of
from data_recipes.rows.reader import PackedRows
from hub_cards.cards.evidence import Figures, join
from hub_cards.cards.model_card import LANGUAGES as LANGUAGES_OF_RUNS
from hub_cards.cards.model_card import TAGS, render
from hub_cards.cards.tables import Table
from hub_cards.repos.names import Names, vocabulary

LICENCE_OF_EACH_SOURCE = {"license": "other", "license_name": "as-of-each-source", "license_link": "LICENSE"}
ABOUT_LICENCES = "Each row records the source of each of its documents; the licence of that source applies."
LICENCE_FILE = "LICENSE"  # what `license_link` names: the Hub takes this name, LICENSE.md or a URL
LICENCE_TEXT = """\
The rows of this dataset hold text of several sources, as tokens. No licence is granted by this file: to the text of
each source the licence of that source applies. {where}
"""
ABOUT_ORIGINS = """\
What the mixes were drawn from, by domain. Origins: `packages` (sources and documentation of installed Python packages),
`python` (Python's own library), `messages` (translations of installed programs), `generated` (problems with computed
answers), `files` (the run owner's own)."""
# What the Hub calls the languages of sources; where a source names none, its domain decides.
LANGUAGES = {"en": "en", "zh": "zh", "code": "code", "multi": "multilingual"}
NOT_STATED = "not stated"
LANGUAGE_OF_DOMAIN = {"web-en": "en", "web-zh": "zh", "code": "code"}


@dataclass(frozen=True)
class PublishedSize:
    """Bytes of a phase: as Arrow tables in memory, and as Parquet files."""

    in_memory: int
    files: int


def run_dataset_card(figures: Figures, names: Names, *, mixes: list[Path], configs: list[dict[str, Any]]) -> str:
    """The card of a run's recipes and packed phases. `configs` are the Hub's: a name and the files of each split."""
    manifests = [f"{figures.run.data}/{mix.name}/manifest.json" for mix in mixes]
    counts = ("/context_length", "/counts/rows", "/counts/tokens", "/counts/documents")
    metadata = {
        "language": [*LANGUAGES_OF_RUNS, "code"],
        **LICENCE_OF_EACH_SOURCE,
        "pretty_name": f"{names.name} pretraining phases",
        "task_categories": ["text-generation"],
        "size_categories": [size_category(sum(figures.value(file, "/counts/rows") for file in manifests))],
        "tags": TAGS,
        "configs": configs,
    }
    corpus = corpus_table(figures)
    rows = [
        [mix.name, *(figures.figure(file, at) for at in counts)] for mix, file in zip(mixes, manifests, strict=True)
    ]
    return render(
        "dataset",
        metadata,
        title=f"{names.name} data",
        names=names,
        example=mixes[0].name,
        mixes={"headers": ["mix", "context", "rows", "tokens", "documents"], "rows": rows},
        sections=[("Text", ABOUT_ORIGINS, corpus)] if corpus else [],
    )


def run_licence_text() -> str:
    """The file that a run's card links to as its licence."""
    return LICENCE_TEXT.format(where="The files that the rows are from are named in data/<mix>/sources.json.")


def phases_licence_text(phases: Sequence[PackedRows]) -> str | None:
    """The file that the card of built phases links to as its licence; None where the licence is one that it names."""
    if _licence(phases) != LICENCE_OF_EACH_SOURCE:
        return None
    lines = [f"{name}: {licence}" for name, _, licence, *_ in _source_lines(phases)]
    return LICENCE_TEXT.format(where="The sources and their licences:\n\n" + "\n".join(lines))


def corpus_table(figures: Figures) -> Table | None:
    """Documents and bytes of training text by domain, and how many of the bytes are from which kind of place."""
    file = f"{figures.run.corpus}/manifest.json"
    if not figures.has(file) or "domains" not in figures.value(file, "/counts"):
        return None
    domains = figures.value(file, "/counts/domains")
    origins = sorted({origin for domain in domains.values() for origin in domain.get("origins", {})})
    rows = []
    for name, domain in domains.items():
        at = join("counts", "domains", name)
        row = [name, figures.figure(file, f"{at}/train/documents"), figures.figure(file, f"{at}/train/bytes")]
        known = domain.get("origins", {})
        rows.append(row + [figures.figure(file, f"{at}/origins/{one}") if one in known else "" for one in origins])
    headers = ["domain", "documents", "bytes", *(f"of {origin}" for origin in origins)]
    return {"headers": headers, "rows": rows}


def phases_card(phases: Sequence[PackedRows], sizes: Sequence[PublishedSize], *, title: str) -> str:
    """The card of built phases by themselves, one config per phase, every figure from their manifests."""
    tokenizer = phases[0].manifest["tokenizer"]
    location = tokenizer["location"]
    columns = ["config", "context", "rows", "tokens", "documents", "padding", "subsets", "packing"]
    sources = ["source", "revision", "licence", "epochs", "content fingerprint"]
    missing = ["config", "subset", "tokens", "what was done", "reason"]
    sections = [
        ("Tokens by domain", "", _domain_table(phases)),
        ("Tokens by language", "", _language_table(phases)),
        ("Sources and their licences", ABOUT_LICENCES, _table(sources, _source_lines(phases))),
        ("Rows of the sources that gave no document", "", _table(["source", "reason", "rows"], _drop_lines(phases))),
        ("Subsets left out", "", _table(missing, _missing_lines(phases))),
    ]
    return render(
        "dataset",
        front_matter(phases, sizes, title=title),
        title=title,
        names=None,
        total=f"{sum(phase.num_rows * phase.context_length for phase in phases):,}",
        tokenizer={
            # Of a folder on the machine that built the rows only the last part of its path is shown.
            "name": Path(location).name if os.path.isabs(location) else location,
            "vocabulary": f"{tokenizer['vocab_size']:,}",
            "fingerprint": tokenizer["fingerprint"][:16],
            "eos_id": tokenizer["eos_id"],
        },
        mixes=_table(columns, [_phase_line(phase) for phase in phases]),
        sections=sections,
    )


def size_category(rows: int) -> str:
    """The Hub's size category of a number of rows: "n<1K", then a word for each power of ten."""
    words = vocabulary()["size_categories"]
    return words[min(max(0, len(str(rows)) - 3), len(words) - 1)]


def front_matter(phases: Sequence[PackedRows], sizes: Sequence[PublishedSize], *, title: str) -> dict[str, Any]:
    """What the Hub reads: configs with their files, and `dataset_info` with features and sizes."""
    infos = DatasetInfosDict()
    for phase, size in zip(phases, sizes, strict=True):
        train = SplitInfo("train", num_bytes=size.in_memory, num_examples=phase.num_rows)
        infos[phase.folder.name] = DatasetInfo(
            features=Features.from_arrow_schema(schema_of(phase.context_length, pa.string())),
            splits=SplitDict({"train": train}),
            download_size=size.files,
            dataset_size=size.in_memory,
        )
    info = DatasetCardData()
    infos.to_dataset_card_data(info)
    return {
        "pretty_name": title,
        **_licence(phases),
        "language": sorted(language for language in _tokens_by_language(phases) if language != NOT_STATED),
        "task_categories": ["text-generation"],
        "tags": ["pretraining", "packed", "curriculum"],
        "size_categories": [size_category(sum(phase.num_rows for phase in phases))],
        "configs": [
            {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/*.parquet"}]}
            for name in (phase.folder.name for phase in phases)
        ],
        "dataset_info": info["dataset_info"],
    }


def _phase_line(phase: PackedRows) -> list[Any]:
    counts = phase.manifest["counts"]
    totals = [counts[key] for key in ("rows", "tokens", "documents")]
    padding = f"{counts['padding'] / counts['tokens']:.3%}"
    subsets = sum(subset["rows"] > 0 for subset in phase.manifest["subsets"])
    packing = phase.manifest["config"]["packing"]
    return [phase.folder.name, phase.context_length, *totals, padding, subsets, packing]


def _domain_table(phases: Sequence[PackedRows]) -> Table:
    tokens: dict[str, Counter[str]] = {}
    for phase in phases:
        counter = tokens.setdefault(phase.folder.name, Counter())
        for subset in phase.manifest["subsets"]:
            counter[subset["domain"] or "no domain"] += subset["tokens"]
    domains = list(dict.fromkeys(domain for counter in tokens.values() for domain in counter))
    lines = [
        [name, *(f"{counter[domain] / counter.total():.1%}" for domain in domains)] for name, counter in tokens.items()
    ]
    return _table(["config", *domains], lines)


def _licence(phases: Sequence[PackedRows]) -> dict[str, Any]:
    """The licences of all sources where the Hub knows each; else "other", which the table of sources spells out."""
    stated = {source["licence"] for phase in phases for source in phase.manifest["sources"]}
    if stated <= set(vocabulary()["licenses"]) - {"other", "unknown"}:
        licences = sorted(stated)
        return {"license": licences[0] if len(licences) == 1 else licences}
    return LICENCE_OF_EACH_SOURCE


def _tokens_by_language(phases: Sequence[PackedRows]) -> Counter[str]:
    tokens: Counter[str] = Counter()
    for phase in phases:
        languages = {source["name"]: source["entry"].get("language") for source in phase.manifest["sources"]}
        for subset in phase.manifest["subsets"]:
            language = languages[subset["source"]] or LANGUAGE_OF_DOMAIN.get(subset["domain"] or "")
            tokens[LANGUAGES[language] if language else NOT_STATED] += subset["tokens"]
    return +tokens


def _language_table(phases: Sequence[PackedRows]) -> Table:
    tokens = _tokens_by_language(phases)
    return _table(
        ["language", "tokens", "share"],
        [[language, count, f"{count / tokens.total():.1%}"] for language, count in tokens.most_common()],
    )


def _source_lines(phases: Sequence[PackedRows]) -> list[list[Any]]:
    """Each source once, with the epochs it had reached after the last phase that drew from it."""
    lines: dict[str, list[Any]] = {}
    for phase in phases:
        for source in phase.manifest["sources"]:
            epochs = "below 1" if source["epochs"] is None else f"{source['epochs']:.2f}"
            line = [source["name"], source["revision"] or "local files", source["licence"] or NOT_STATED, epochs]
            lines[source["fingerprint"]] = [*line, f"`{source['fingerprint'][:16]}`"]
    return list(lines.values())


def _drop_lines(phases: Sequence[PackedRows]) -> list[list[Any]]:
    drops: dict[tuple[str, str], int] = {}
    for phase in phases:
        for source in phase.manifest["sources"]:
            for reason, count in source["drops"].items():
                drops[source["name"], reason] = max(count, drops.get((source["name"], reason), 0))
    return [[name, reason, count] for (name, reason), count in sorted(drops.items())]


def _missing_lines(phases: Sequence[PackedRows]) -> list[list[Any]]:
    return [
        [phase.folder.name, entry["subset"], entry["tokens"], entry["action"], entry["reason"]]
        for phase in phases
        for entry in phase.manifest["config"]["missing"]
    ]


def _table(headers: list[str], rows: list[list[Any]]) -> Table:
    return {"headers": headers, "rows": rows}
