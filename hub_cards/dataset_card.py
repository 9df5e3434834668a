"""The card of a published dataset, every figure of it from the phases' manifests."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_recipes.rows.reader import PackedRows
from hub_cards.vocabulary import vocabulary

TOKENIZER = "tokenizer"
# What the Hub calls the languages of sources; where a source names none, its domain tells.
LANGUAGES = {"en": "en", "zh": "zh", "code": "code", "multi": "multilingual"}
NOT_STATED = "not stated"
LANGUAGE_OF_DOMAIN = {"web-en": "en", "web-zh": "zh", "code": "code"}


@dataclass(frozen=True)
class PublishedSize:
    """Bytes of a phase: as Arrow tables in memory, and as Parquet files."""

    in_memory: int
    files: int


def dataset_card(phases: Sequence[PackedRows], sizes: Sequence[PublishedSize], *, title: str) -> str:
    """README.md with YAML front matter: one config a phase; tables of phases, sources, drops, what is missing."""
    parts = [
        f"---\n{yaml.safe_dump(front_matter(phases, sizes, title=title), sort_keys=False, allow_unicode=True)}---\n",
        f"# {title}\n",
        _introduction(phases),
        "## Phases\n",
        _table(
            ["config", "context", "rows", "tokens", "documents", "padding", "subsets", "packing"],
            [_phase_line(phase) for phase in phases],
        ),
        "## Tokens by domain\n",
        _domain_table(phases),
        "## Tokens by language\n",
        _language_table(phases),
        "## Sources and their licences\n",
        "Each row keeps the source of each of its documents, under whose licence it is.\n",
        _table(["source", "revision", "licence", "epochs", "content fingerprint"], _source_lines(phases)),
        "## Rows of the sources that gave no document\n",
        _table(["source", "reason", "rows"], _drop_lines(phases)) or "None.\n",
        "## Subsets left out\n",
        _table(["config", "subset", "tokens", "what was done", "reason"], _missing_lines(phases)) or "None.\n",
    ]
    return "\n".join(parts)


def front_matter(phases: Sequence[PackedRows], sizes: Sequence[PublishedSize], *, title: str) -> dict[str, Any]:
    """What the Hub reads: configs with their files, and `dataset_info` with features and sizes."""
    return {
        "pretty_name": title,
        **_licence(phases),
        "language": sorted(language for language in _tokens_by_language(phases) if language != NOT_STATED),
        "task_categories": ["text-generation"],
        "tags": ["pretraining", "packed", "curriculum"],
        "size_categories": [_size_category(sum(phase.num_rows for phase in phases))],
        "configs": [
            {
                "config_name": phase.folder.name,
                "data_files": [{"split": "train", "path": f"{phase.folder.name}/*.parquet"}],
            }
            for phase in phases
        ],
        "dataset_info": [
            {
                "config_name": phase.folder.name,
                "features": _features(phase.context_length),
                "splits": [{"name": "train", "num_bytes": size.in_memory, "num_examples": phase.num_rows}],
                "download_size": size.files,
                "dataset_size": size.in_memory,
            }
            for phase, size in zip(phases, sizes, strict=True)
        ],
    }


def _features(context_length: int) -> list[dict[str, Any]]:
    piece = [
        {"name": "source", "dtype": "string"},
        {"name": "file", "dtype": "string"},
        {"name": "row", "dtype": "int64"},
        {"name": "start", "dtype": "int64"},
        {"name": "end", "dtype": "int64"},
    ]
    return [
        {"name": "input_ids", "list": "int32", "length": context_length},
        {"name": "doc_lengths", "list": "int32"},
        {"name": "subset", "dtype": "string"},
        {"name": "documents", "list": piece},
    ]


def _size_category(rows: int) -> str:
    for bound, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if rows < bound:
            return name
    return "1M<n<10M" if rows < 10**7 else "10M<n<100M"


def _introduction(phases: Sequence[PackedRows]) -> str:
    tokenizer = phases[0].manifest["tokenizer"]
    total = sum(phase.num_rows * phase.context_length for phase in phases)
    count = f"{len(phases)} phase{'s' if len(phases) > 1 else ''}"
    return (
        f"{total:,} tokens in {count}, packed into rows in training order: reading a config from its "
        "first row to its last is training on it. Written from the manifests of the build; no figure here is typed.\n\n"
        "- `input_ids`: the tokens of a row, as many as the context is long. Documents are closed by EOS "
        f"(id {tokenizer['eos_id']}).\n"
        "- `doc_lengths`: how many tokens of the row belong to each document; padding, if any, is the last.\n"
        "- `subset`: the part of the mix that the row was drawn for.\n"
        "- `documents`: for each document the source, file and row it came from, and the span of its tokens.\n\n"
        f"The tokenizer is {_tokenizer_name(tokenizer)}, with a vocabulary of {tokenizer['vocab_size']:,} and the "
        f"fingerprint `{tokenizer['fingerprint'][:16]}`. Its files are in `{TOKENIZER}/`: "
        f'`AutoTokenizer.from_pretrained(folder, subfolder="{TOKENIZER}")`.\n'
    )


def _tokenizer_name(entry: dict[str, Any]) -> str:
    """Its id on the Hub; a folder of the machine that built the rows is not named beyond its last part."""
    location = entry["location"]
    return f"`{Path(location).name if os.path.isabs(location) else location}`"


def _phase_line(phase: PackedRows) -> list[Any]:
    counts, config = phase.manifest["counts"], phase.manifest["config"]
    return [
        phase.folder.name,
        phase.context_length,
        counts["rows"],
        counts["tokens"],
        counts["documents"],
        f"{counts['padding'] / counts['tokens']:.3%}",
        sum(subset["rows"] > 0 for subset in phase.manifest["subsets"]),
        config["packing"],
    ]


def _domain_table(phases: Sequence[PackedRows]) -> str:
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
    return {"license": "other", "license_name": "as-of-each-source", "license_link": "README.md"}


def _tokens_by_language(phases: Sequence[PackedRows]) -> Counter[str]:
    tokens: Counter[str] = Counter()
    for phase in phases:
        said = {source["name"]: source["entry"].get("language") for source in phase.manifest["sources"]}
        for subset in phase.manifest["subsets"]:
            language = said[subset["source"]] or LANGUAGE_OF_DOMAIN.get(subset["domain"] or "")
            tokens[LANGUAGES[language] if language else NOT_STATED] += subset["tokens"]
    return +tokens


def _language_table(phases: Sequence[PackedRows]) -> str:
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
            revision = source["revision"] or "local files"
            licence = source["licence"] or NOT_STATED
            lines[source["fingerprint"]] = [
                source["name"],
                revision,
                licence,
                epochs,
                f"`{source['fingerprint'][:16]}`",
            ]
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


def _table(headers: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table, or nothing without rows."""
    if not rows:
        return ""
    lines = [headers, ["---"] * len(headers), *rows]
    cells = [
        [f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|") for cell in line] for line in lines
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)
