"""Cards of generated and of cleaned text: what `data synthesize` and `data clean` leave, from manifest and summary."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_recipes.manifest import MANIFEST_NAME
from hub_cards.cards.dataset_metadata import dataset_metadata
from hub_cards.cards.evidence import Figures, Operand, join
from hub_cards.cards.licences import Licence, rows_licence
from hub_cards.cards.page import Name, Page, Table, render
from hub_cards.cards.settings import CardSettings
from hub_cards.errors import HubError

SUMMARY = "summary.json"
DECONTAMINATION = "decontamination"
LANGUAGES = ("en", "zh")


def synthetic_card(figures: Figures, settings: CardSettings) -> Page:
    """Card of generated documents: which model and prompts, and how many were found right."""
    manifest, summary = f"{figures.run.data}/{MANIFEST_NAME}", f"{figures.run.data}/{SUMMARY}"
    config = figures.value(manifest, "/config")
    verdicts = figures.value(summary, "/verdicts")
    total: Operand = ("sum", [(summary, join("verdicts", verdict)) for verdict in verdicts])
    rows = [
        [
            verdict,
            figures.figure(summary, join("verdicts", verdict)),
            figures.derived("ratio", [(summary, join("verdicts", verdict)), total], ".1%"),
        ]
        for verdict in verdicts
        if verdicts[verdict]
    ]
    languages = figures.value(summary).get("languages") or LANGUAGES
    by_program = config["kind"] == "programs"
    licence = _licence(settings, text="The text was made by a program, of no source." if by_program else "")
    text = render(
        "synthetic",
        dataset_metadata(figures, settings, licence, languages=list(languages), tags=["synthetic"]),
        settings,
        **_shape(figures, settings),
        by_program=by_program,
        kind=Name(config["kind"]),
        model=Name(config["model"]) if config.get("model") else None,
        prompts=_listed(config.get("prompts")),
        settings_of_model=_settings_table(figures, manifest, "settings"),
        verdicts={"headers": ["verdict", "documents", "share"], "rows": rows},
        reasons=_reason_table(figures, summary),
        characters=figures.figure(summary, "/characters"),
        levels=_count_table(figures, summary, "levels", "level"),
        languages=_count_table(figures, summary, "languages", "language"),
        seeds=_input_table(figures, manifest),
        licence=Name(licence.sentences),
    )
    return Page(text, licence.file)


def cleaned_card(figures: Figures, settings: CardSettings) -> Page:
    """Card of cleaned text: what each step dropped, and why."""
    manifest, summary = f"{figures.run.data}/{MANIFEST_NAME}", f"{figures.run.data}/{SUMMARY}"
    licence = _licence(settings)
    steps = figures.value(manifest, "/config/steps")
    text = render(
        "cleaned",
        dataset_metadata(figures, settings, licence, languages=LANGUAGES, tags=["cleaned"]),
        settings,
        **_shape(figures, settings),
        documents=figures.figure(summary, "/documents"),
        kept=figures.figure(summary, "/kept_documents"),
        share=figures.derived("ratio", [(summary, "/kept_documents"), (summary, "/documents")], ".1%"),
        characters=figures.figure(summary, "/kept_characters"),
        steps=_funnel_table(figures, summary),
        reasons=_dropped_table(figures, summary),
        seeds=_input_table(figures, manifest),
        decontaminated=any(step["step"] == DECONTAMINATION for step in steps),
        licence=Name(licence.sentences),
    )
    return Page(text, licence.file)


def _shape(figures: Figures, settings: CardSettings) -> dict[str, Any]:
    """The columns of the files, and a config to load."""
    files = _files(figures, settings)
    schema = pq.read_schema(files[0])
    return {
        "columns": [Name(f"`{field.name}` ({field.type})") for field in schema],
        "example": Name(next(iter(settings.configs))),
    }


def _files(figures: Figures, settings: CardSettings) -> list[Path]:
    files = [path for pattern in settings.configs.values() for path in sorted(figures.repo.glob(pattern))]
    if not files or any(path.suffix != ".parquet" for path in files):
        raise HubError(f"{settings.repo_id}: no Parquet file matches {', '.join(settings.configs.values())}.")
    return files


def _licence(settings: CardSettings, text: str = "") -> Licence:
    """The owner's; no licence of what a model wrote or of what was cleaned is known otherwise."""
    if settings.licence is not None:
        return Licence(
            {"license": settings.licence}, f"The owner of this repo offers the text under `{settings.licence}`."
        )
    unknown = f"{text} No licence of the text is recorded. Ask the owner of this repo before you use it."
    return Licence(rows_licence([]).keys, unknown.strip(), rows_licence([]).file)


def _settings_table(figures: Figures, manifest: str, key: str) -> Table | None:
    """How the model was asked."""
    settings = figures.value(manifest, "/config").get(key)
    if not settings:
        return None
    rows = [
        [name.replace("_", " "), figures.figure(manifest, join("config", key, name), "")]
        for name, value in settings.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    ]
    return {"headers": ["setting", "value"], "rows": rows}


def _count_table(figures: Figures, summary: str, key: str, title: str) -> Table | None:
    counts = figures.value(summary).get(key)
    if not counts:
        return None
    rows = [[Name(name), figures.figure(summary, join(key, name))] for name in counts]
    return {"headers": [title, "documents"], "rows": rows}


def _reason_table(figures: Figures, summary: str) -> Table | None:
    reasons = figures.value(summary).get("reasons")
    if not reasons:
        return None
    rows = [
        [reason["verdict"], Name(reason["reason"]), figures.figure(summary, join("reasons", index, "seeds"))]
        for index, reason in enumerate(reasons)
    ]
    return {"headers": ["verdict", "reason", "documents"], "rows": rows, "left": ["reason"]}


def _funnel_table(figures: Figures, summary: str) -> Table:
    """What went into each step of the cleaning and came out, all sources together."""
    places: dict[str, list[int]] = {}
    for index, entry in enumerate(figures.value(summary, "/funnel")):
        places.setdefault(entry["step"], []).append(index)
    keys = ("documents_in", "documents_dropped", "documents_kept")
    rows = [
        [Name(step), *(figures.derived("sum", [(summary, join("funnel", i, key)) for i in indexes]) for key in keys)]
        for step, indexes in places.items()
    ]
    return {"headers": ["step", "documents in", "dropped", "kept"], "rows": rows}


def _dropped_table(figures: Figures, summary: str) -> Table:
    places: dict[tuple[str, str], list[Operand]] = {}
    for index, entry in enumerate(figures.value(summary, "/funnel")):
        for reason in entry["reasons"]:
            at = (summary, join("funnel", index, "reasons", reason, "documents"))
            places.setdefault((entry["step"], reason), []).append(at)
    rows = [[Name(step), Name(reason), figures.derived("sum", at)] for (step, reason), at in places.items()]
    return {"headers": ["step", "reason", "documents"], "rows": rows, "left": ["reason"]}


def _input_table(figures: Figures, manifest: str) -> Table:
    inputs = figures.value(manifest, "/inputs")
    rows = [[Name(name), Name(f"`{str(value)[:16]}`")] for name, value in inputs.items()]
    return {"headers": ["source", "content fingerprint"], "rows": rows, "left": ["content fingerprint"]}


def _listed(value: Any) -> Name | None:
    """A version, or the versions of several prompts, as text."""
    if not value:
        return None
    parts = value.items() if isinstance(value, dict) else [("", value)]
    return Name(", ".join(f"{name} `{str(version)[:16]}`".strip() for name, version in parts))
