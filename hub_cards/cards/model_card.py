"""Cards of models: checkpoints by phase, the merged base model, the instruct model."""

from huggingface_hub import CardData, ModelCardData

from data_recipes.manifest import MANIFEST_NAME
from data_recipes.recipes.phases import phase_folder
from hub_cards.cards import tables
from hub_cards.cards.evidence import OWN, Figures, join
from hub_cards.cards.page import Name, Table, metadata_of, render
from hub_cards.cards.settings import CardSettings
from hub_cards.repos.folder import INDEX_NAME

LANGUAGES = ["en", "zh"]
TAGS = ["yulanmini", "reproduction"]
INDEX = f"{OWN}{INDEX_NAME}"


def model_metadata(settings: CardSettings, *tags: str, base_model: str | None = None) -> CardData:
    """The metadata that all cards of models have."""
    return metadata_of(
        ModelCardData,
        language=LANGUAGES,
        license=settings.licence or "mit",
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[*TAGS, *tags],
        datasets=[settings.links["data"]] if "data" in settings.links else None,
        base_model=base_model,
        base_model_relation="finetune" if base_model else None,
    )


def base_card(figures: Figures, settings: CardSettings) -> str:
    """Card of the merged base model, a plain Llama."""
    heldout = tables.heldout_table(figures)
    return render(
        "base",
        model_metadata(settings, "merged"),
        settings,
        licence=Name(settings.licence or "mit"),
        example=tables.example(figures, "base"),
        training=tables.training_table(figures),
        heldout=heldout,
        scores=tables.score_tables(figures, ["base"], without=["heldout"] if heldout else []),
        merge=tables.merge_table(figures),
    )


def revision_table(figures: Figures) -> Table:
    """The branches of a repo of checkpoints, from its index."""
    rows = []
    for index, branch in enumerate(figures.value(INDEX, "/branches")):
        at = join("branches", index)
        numbers = [figures.figure(INDEX, f"{at}/{key}") for key in ("step", "tokens", "context")]
        optimizer = Name(f"`{branch['optimizer']}`") if branch["optimizer"] else ""
        rows.append([Name(branch["phase"]), *numbers, Name(f"`{branch['revision']}`"), Name(branch["tag"]), optimizer])
    headers = ["phase", "step", "tokens", "context", "revision", "tag", "optimizer state"]
    return {"headers": headers, "rows": rows, "left": headers[-3:]}


def checkpoints_card(figures: Figures, settings: CardSettings) -> str:
    """Card of the unmerged checkpoints, one revision per phase."""
    return render(
        "checkpoints",
        model_metadata(settings, "checkpoints"),
        settings,
        licence=Name(settings.licence or "mit"),
        example=Name(figures.value(INDEX, "/branches/0/revision")),
        final=Name(figures.value(INDEX, "/main")),
        revisions=revision_table(figures),
        heldout=tables.heldout_table(figures),
    )


def checkpoint_card(figures: Figures, settings: CardSettings) -> str:
    """Card of one phase's branch."""
    model = f"{figures.run.pretrain}/models/{phase_folder(settings.phase or '')}"
    return render(
        "checkpoint",
        model_metadata(settings, "checkpoints"),
        settings,
        licence=Name(settings.licence or "mit"),
        revision=Name(settings.revision),
        phase=Name(settings.phase),
        facts=tables.figures_table(
            figures,
            "",
            ("optimizer steps", f"{model}/{MANIFEST_NAME}", "/counts/step", ","),
            ("context", f"{model}/config.json", "/max_position_embeddings", ","),
        ),
        heldout=tables.heldout_table(figures, phase=settings.phase),
    )


def parent_role(figures: Figures) -> str:
    """What was tuned: "base", the merged model, if the first tuning's manifest holds its fingerprint."""
    merged = f"{figures.run.merged}/{MANIFEST_NAME}"
    first = f"{next(iter(figures.run.tuned.values()))}/{MANIFEST_NAME}"
    tuned_from = figures.value(first).get("inputs", {}).get("model")
    is_merged = figures.has(merged) and figures.value(merged, "/fingerprint") == tuned_from
    return "base" if is_merged else "checkpoints"


def instruct_card(figures: Figures, settings: CardSettings) -> str:
    """Card of the instruct model: its stages as they came."""
    run = figures.run
    parent = settings.links.get(parent_role(figures))
    return render(
        "instruct",
        model_metadata(settings, *run.tuned, "trl", base_model=parent),
        settings,
        licence=Name(settings.licence or "mit"),
        parent=parent,
        is_merged=figures.value(f"{run.instruct}/config.json", "/model_type") == "llama",
        example=tables.example(figures, run.models[-1]),
        tuning=tables.tuning_tables(figures),
        scores=tables.score_tables(figures, run.models),
        cost=tables.tuning_cost(figures),
        samples=tables.samples(figures, run.models[-1]),
    )
