"""The card of packed phases, of a run's data or of built phases by themselves."""

from pathlib import PurePosixPath

from data_recipes.manifest import MANIFEST_NAME
from hub_cards.cards import mixes
from hub_cards.cards.dataset_metadata import dataset_metadata
from hub_cards.cards.evidence import Figures, join
from hub_cards.cards.licences import rows_licence
from hub_cards.cards.page import Name, Page, Table, render
from hub_cards.cards.settings import CardSettings
from hub_cards.errors import HubError


def phases_card(figures: Figures, settings: CardSettings) -> Page:
    """The card of packed phases, one config for each."""
    phases = mixes.mixes(figures)
    if not phases:
        raise HubError(f"{figures.run.data}: no built phase; the card needs the manifests of phases.")
    licence = rows_licence(mixes.sources(figures, phases))
    first = next(iter(phases.values()))
    text = render(
        "dataset",
        dataset_metadata(
            figures,
            settings,
            licence,
            languages=sorted(mixes.tokens_by_language(figures, phases).keys() - {mixes.NOT_STATED}),
            tags=["pretraining", "packed", "curriculum"],
            rows=figures.evaluate(("sum", [(file, "/counts/rows") for file in phases.values()])),
        ),
        settings,
        example=Name(next(iter(settings.configs))),
        total=figures.derived("sum", [(file, "/counts/tokens") for file in phases.values()]),
        count=figures.derived("count", [(file, "/counts/rows") for file in phases.values()]),
        several=len(phases) > 1,
        tokenizer={
            "name": Name(PurePosixPath(figures.value(first, "/tokenizer/location")).name),
            "vocabulary": figures.figure(first, "/tokenizer/vocab_size"),
            "fingerprint": Name(figures.value(first, "/tokenizer/fingerprint")[:16]),
            "eos_id": figures.figure(first, "/tokenizer/eos_id"),
        },
        phases=phase_table(figures, phases),
        domains=mixes.domain_table(figures, phases),
        mixture=mixes.mixture_table(figures, phases),
        languages=mixes.language_table(figures, phases),
        sources=mixes.source_table(figures, phases),
        corpus=corpus_table(figures),
        cleaning=cleaning_table(figures),
        drops=mixes.drop_table(figures, phases),
        missing=mixes.missing_table(figures, phases),
        has_licence_file=licence.file is not None,
    )
    return Page(text, licence.file)


def phase_table(figures: Figures, phases: mixes.Mixes) -> Table:
    """A line a phase: how many rows of what length, and how they were packed."""
    lines = []
    for name, file in phases.items():
        counts = ("/context_length", "/counts/rows", "/counts/tokens", "/counts/documents")
        places = [figures.figure(file, pointer) for pointer in counts]
        padding = figures.derived("ratio", [(file, "/counts/padding"), (file, "/counts/tokens")], ".2%")
        drawn = figures.derived("count", [at for at, one in mixes.subsets(figures, file) if one["tokens"]])
        lines.append([Name(name), *places, padding, drawn, Name(figures.value(file, "/config/packing"))])
    headers = ["config", "context", "rows", "tokens", "documents", "padding", "subsets", "packing"]
    return {"headers": headers, "rows": lines}


def cleaning_table(figures: Figures) -> Table | None:
    """Documents that the miniature's corpus lost to each step, before anything was packed."""
    file = f"{figures.run.corpus}/{MANIFEST_NAME}"
    if not figures.has(file) or "dropped" not in figures.value(file, "/counts"):
        return None
    rows = [
        [step.replace("-", " ").replace("_", " "), figures.figure(file, join("counts", "dropped", step))]
        for step in figures.value(file, "/counts/dropped")
    ]
    return {"headers": ["dropped by", "documents"], "rows": rows}


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
        row = [
            mixes.domain_name(name),
            figures.figure(file, f"{at}/train/documents"),
            figures.figure(file, f"{at}/train/bytes"),
        ]
        known = domain.get("origins", {})
        rows.append(row + [figures.figure(file, f"{at}/origins/{one}") if one in known else "" for one in origins])
    headers = ["kind of text", "documents", "bytes", *(f"of {origin}" for origin in origins)]
    return {"headers": headers, "rows": rows}
