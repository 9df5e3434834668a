"""The card of packed phases, of a run's data or of built phases by themselves: every figure is from their manifests."""

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
from datasets import DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import CardData, DatasetCardData

from data_recipes.manifest import MANIFEST_NAME
from hub_cards.cards.evidence import OWN, Figures, Operand, join
from hub_cards.cards.page import Name, Table, metadata_of, render
from hub_cards.cards.settings import CardSettings
from hub_cards.errors import HubError
from hub_cards.repos.names import vocabulary

LICENCE_OF_EACH_SOURCE = {"license": "other", "license_name": "as-of-each-source", "license_link": "LICENSE"}
ABOUT_LICENCES = "Each row records the source of each of its documents; the licence of that source applies."
LICENCE_TEXT = """\
The rows of this dataset hold text of several sources, as tokens. No licence is granted by this file: to the text of
each source the licence of that source applies. The sources and their licences:

"""
ABOUT_ORIGINS = """\
What the mixes were drawn from, by domain. Origins: `packages` (sources and documentation of installed Python packages),
`python` (Python's own library), `messages` (translations of installed programs), `generated` (problems with computed
answers), `files` (the run owner's own)."""
# What the Hub calls the languages of sources; where a source names none, its domain decides.
LANGUAGES = {"en": "en", "zh": "zh", "code": "code", "multi": "multilingual"}
NOT_STATED = "not stated"
LANGUAGE_OF_DOMAIN = {"web-en": "en", "web-zh": "zh", "code": "code"}


def phases_card(figures: Figures, settings: CardSettings) -> str:
    """The card of packed phases, one config for each."""
    mixes = _mixes(figures)
    counts = ("/counts/rows", "/counts/tokens", "/counts/documents")
    lines = []
    for name, file in mixes.items():
        places = [figures.figure(file, pointer) for pointer in ("/context_length", *counts)]
        padding = figures.derived("ratio", [(file, "/counts/padding"), (file, "/counts/tokens")], ".2%")
        subsets = figures.derived("count", [at for at, one in _subsets(figures, file) if one["tokens"]])
        lines.append([Name(name), *places, padding, subsets, Name(figures.value(file, "/config/packing"))])
    sources = ["source", "revision", "licence", "epochs", "content fingerprint"]
    sections = [
        ("Tokens by domain", "", _domain_table(figures, mixes)),
        ("Tokens by language", "", _language_table(figures, mixes)),
        ("Sources and their licences", ABOUT_LICENCES, {"headers": sources, "rows": list(_source_lines(figures))}),
        ("Where the text is from", ABOUT_ORIGINS, corpus_table(figures)),
        ("Rows of the sources that gave no document", "", _drop_table(figures, mixes)),
        ("Subsets left out", "", _missing_table(figures, mixes)),
    ]
    first = next(iter(mixes.values()))
    location = figures.value(first, "/tokenizer/location")
    return render(
        "dataset",
        _metadata(figures, settings, mixes),
        settings,
        example=Name(next(iter(settings.configs))),
        total=figures.derived("sum", [(file, "/counts/tokens") for file in mixes.values()]),
        count=figures.derived("count", [(file, "/counts/rows") for file in mixes.values()]),
        tokenizer={
            "name": Name(location),
            "vocabulary": figures.figure(first, "/tokenizer/vocab_size"),
            "fingerprint": Name(figures.value(first, "/tokenizer/fingerprint")[:16]),
            "eos_id": figures.figure(first, "/tokenizer/eos_id"),
        },
        mixes={
            "headers": ["config", "context", "rows", "tokens", "documents", "padding", "subsets", "packing"],
            "rows": lines,
        },
        sections=[section for section in sections if section[2] is not None],
    )


def licence_text(figures: Figures, settings: CardSettings) -> str | None:
    """The file that the card links to as its licence; None where the licence is one that the Hub knows."""
    if _licence(figures, settings) != LICENCE_OF_EACH_SOURCE:
        return None
    lines = [f"{source['name']}: {source['licence'] or NOT_STATED}\n" for source in _sources(figures)]
    return LICENCE_TEXT + "".join(lines)


def size_category(rows: int) -> str:
    """The Hub's size category of a number of rows: "n<1K", then a word for each power of ten."""
    words = vocabulary()["size_categories"]
    return words[min(max(0, len(str(rows)) - 3), len(words) - 1)]


def corpus_table(figures: Figures) -> Table | None:
    """Documents and bytes of training text by domain, and how many of the bytes are from which kind of place."""
    file = f"{figures.run.corpus}/{MANIFEST_NAME}"
    if not figures.has(file) or "domains" not in figures.value(file, "/counts"):
        return None
    domains = figures.value(file, "/counts/domains")
    origins = sorted({origin for domain in domains.values() for origin in domain.get("origins", {})})
    rows = []
    for name, domain in domains.items():
        at = join("counts", "domains", name)
        row = [Name(name), figures.figure(file, f"{at}/train/documents"), figures.figure(file, f"{at}/train/bytes")]
        known = domain.get("origins", {})
        rows.append(row + [figures.figure(file, f"{at}/origins/{one}") if one in known else "" for one in origins])
    headers = ["domain", "documents", "bytes", *(f"of {origin}" for origin in origins)]
    return {"headers": headers, "rows": rows}


def _mixes(figures: Figures) -> dict[str, str]:
    """The manifest of each phase by its name, in training order."""
    files = {mix.name: f"{figures.run.data}/{mix.name}/{MANIFEST_NAME}" for mix in figures.run.phase_folders()}
    if not files:
        raise HubError(f"{figures.run.data}: no built phase; the card needs the manifests of phases.")
    for file in files.values():
        figures.value(file)
    return files


def _subsets(figures: Figures, file: str) -> Iterator[tuple[Operand, dict[str, Any]]]:
    """The place of the tokens of each subset of a phase, and the subset."""
    for index, subset in enumerate(figures.value(file, "/subsets")):
        yield (file, join("subsets", index, "tokens")), subset


def _domain_table(figures: Figures, mixes: dict[str, str]) -> Table:
    tokens: dict[str, dict[str, list[Operand]]] = {}
    for name, file in mixes.items():
        for at, subset in _subsets(figures, file):
            tokens.setdefault(subset["domain"] or "no domain", {}).setdefault(name, []).append(at)
    rows = []
    for name, file in mixes.items():
        whole: Operand = ("sum", [at for at, _ in _subsets(figures, file)])
        parts = [("sum", tokens[domain].get(name, [])) for domain in tokens]
        rows.append([Name(name), *(figures.derived("ratio", [part, whole], ".1%") for part in parts)])
    return {"headers": ["config", *map(Name, tokens)], "rows": rows}


def _tokens_by_language(figures: Figures, mixes: dict[str, str]) -> dict[str, list[Operand]]:
    """The places of the tokens of each language, the language with most first."""
    tokens: dict[str, list[Operand]] = {}
    for file in mixes.values():
        languages = {source["name"]: source["entry"].get("language") for source in figures.value(file, "/sources")}
        for at, subset in _subsets(figures, file):
            if subset["tokens"]:
                language = languages[subset["source"]] or LANGUAGE_OF_DOMAIN.get(subset["domain"] or "")
                tokens.setdefault(LANGUAGES[language] if language else NOT_STATED, []).append(at)
    return dict(sorted(tokens.items(), key=lambda item: -figures.evaluate(("sum", item[1]))))


def _language_table(figures: Figures, mixes: dict[str, str]) -> Table:
    tokens = _tokens_by_language(figures, mixes)
    whole: Operand = ("sum", [at for places in tokens.values() for at in places])
    rows = [
        [language, figures.derived("sum", at), figures.derived("ratio", [("sum", at), whole], ".1%")]
        for language, at in tokens.items()
    ]
    return {"headers": ["language", "tokens", "share"], "rows": rows}


def _sources(figures: Figures) -> list[dict[str, Any]]:
    """Each source once, as the last phase that drew from it records it."""
    found = {}
    for file in _mixes(figures).values():
        for index, source in enumerate(figures.value(file, "/sources")):
            found[source["fingerprint"]] = {**source, "file": file, "at": join("sources", index)}
    return list(found.values())


def _source_lines(figures: Figures) -> Iterator[list[Any]]:
    for source in _sources(figures):
        epochs = figures.figure(source["file"], f"{source['at']}/epochs", ".2f") if source["epochs"] else "below one"
        revision, licence = source["revision"] or "local files", source["licence"] or NOT_STATED
        yield [*map(Name, (source["name"], revision, licence)), epochs, Name(f"`{source['fingerprint'][:16]}`")]


def _drop_table(figures: Figures, mixes: dict[str, str]) -> Table:
    drops: dict[tuple[str, str], list[Operand]] = {}
    for file in mixes.values():
        for index, source in enumerate(figures.value(file, "/sources")):
            for reason in source["drops"]:
                at = (file, join("sources", index, "drops", reason))
                drops.setdefault((source["name"], reason), []).append(at)
    rows = [[Name(name), Name(reason), figures.derived("largest", at)] for (name, reason), at in sorted(drops.items())]
    return {"headers": ["source", "reason", "rows"], "rows": rows, "left": ["reason"]}


def _missing_table(figures: Figures, mixes: dict[str, str]) -> Table:
    rows = []
    for name, file in mixes.items():
        for index, entry in enumerate(figures.value(file, "/config/missing")):
            tokens = figures.figure(file, join("config", "missing", index, "tokens"))
            rows.append([Name(name), Name(entry["subset"]), tokens, Name(entry["action"]), Name(entry["reason"])])
    headers = ["config", "subset", "tokens", "what was done", "reason"]
    return {"headers": headers, "rows": rows, "left": ["subset", *headers[-2:]]}


def _licence(figures: Figures, settings: CardSettings) -> dict[str, Any]:
    """The licences of all sources where the Hub knows each; else "other", which the table of sources spells out."""
    stated = {source["licence"] for source in _sources(figures)}
    if stated <= set(vocabulary()["licenses"]) - {"other", "unknown"}:
        licences = sorted(stated)
        return {"license": licences[0] if len(licences) == 1 else licences}
    return LICENCE_OF_EACH_SOURCE


def _metadata(figures: Figures, settings: CardSettings, mixes: dict[str, str]) -> CardData:
    """What the Hub reads: configs with their files, and for Parquet `dataset_info` with features and sizes."""
    languages = sorted(language for language in _tokens_by_language(figures, mixes) if language != NOT_STATED)
    infos = DatasetInfosDict()
    for name, pattern in settings.configs.items():
        files = sorted(figures.repo.glob(pattern)) if pattern.endswith(".parquet") else []
        if files:
            own = [f"{OWN}{path.relative_to(figures.repo).as_posix()}" for path in files]
            rows, in_memory, size = (
                figures.number("sum", [(file, f"/{key}") for file in own]) for key in ("rows", "in_memory", "size")
            )
            infos[name] = DatasetInfo(
                features=Features.from_arrow_schema(pq.read_schema(files[0])),
                splits=SplitDict({"train": SplitInfo("train", num_bytes=in_memory, num_examples=rows)}),
                download_size=size,
                dataset_size=in_memory,
            )
    info = DatasetCardData()
    infos.to_dataset_card_data(info)
    rows = figures.evaluate(("sum", [(file, "/counts/rows") for file in mixes.values()]))
    configs: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": "train", "path": pattern}]}
        for name, pattern in settings.configs.items()
    ]
    configs[-1]["default"] = True
    return metadata_of(
        DatasetCardData,
        pretty_name=settings.name,
        **_licence(figures, settings),
        language=languages,
        task_categories=["text-generation"],
        tags=["yulanmini", "pretraining", "packed", "curriculum"],
        size_categories=[size_category(rows)],
        configs=configs,
        dataset_info=info.get("dataset_info"),
    )
