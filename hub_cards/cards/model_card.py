"""Cards of models: checkpoints by phase, one phase's branch, the merged base model, the instruct model, any model."""

from collections.abc import Sequence
from typing import Any

from huggingface_hub import CardData, ModelCardData

from data_recipes.manifest import MANIFEST_NAME
from data_recipes.recipes.phases import is_branch, phase_folder, phase_key
from hub_cards.cards import mixes, plots, tables
from hub_cards.cards.evidence import OWN, Figures, join
from hub_cards.cards.licences import Licence, weights_licence
from hub_cards.cards.page import STAGES, Name, Page, Table, metadata_of, render
from hub_cards.cards.settings import CardSettings
from hub_cards.cards.training_tables import figures_table, hardware_table, settings_table, size_table, tuning_tables
from hub_cards.repos.folder import INDEX_NAME
from modeling_yulanmini.merge import CERTIFICATE_NAME

LANGUAGES = ["en", "zh"]
TAGS = ["yulanmini", "reproduction"]
INDEX = f"{OWN}{INDEX_NAME}"


class Training:
    """What the run's files say of a model's pretraining: data, licence, settings, held-out text, for its card."""

    def __init__(self, figures: Figures, settings: CardSettings) -> None:
        self.figures, self.settings = figures, settings
        manifest = figures.run.pretrain_manifest
        phases = figures.value(manifest, "/counts/phases") if figures.has(manifest) else []
        if not isinstance(phases, list):
            raise TypeError(f"the phases of a run are a list, not {phases!r}")
        self.phases = mixes.mixes(figures, behind([phase_key(str(phase)) for phase in phases], settings.phase))
        self.sources = mixes.sources(figures, self.phases)
        self.licence: Licence = weights_licence(self.sources, asked=settings.licence)
        self.plots = plots.of_training(figures, self.phases)

    def page(self, template: str, *tags: str, base_model: str | None = None, **values: Any) -> Page:
        """The card from a template."""
        figures, settings = self.figures, self.settings
        manifest = figures.run.pretrain_manifest
        trained = figures.has(manifest)
        values = {
            "licence": Name(self.licence.sentences),
            "versions": self._versions(),
            "settings_table": settings_table(figures) if trained else None,
            "domains": mixes.domain_table(figures, self.phases) if self.phases else None,
            "sources": mixes.source_table(figures, self.phases) if self.phases else None,
            "continued": trained and figures.value(manifest, "/config").get("init") is not None,
            "tokens": figures.figure(manifest, "/counts/tokens") if trained else None,
            "kinds_of_text": mixes.languages_in_words(figures, self.phases),
            "plots": {name.partition(".")[0].partition("/")[2] for name in self.plots},
            **values,
        }
        text = render(template, self._metadata(*tags, base_model=base_model), settings, **values)
        shown = {name: draw for name, draw in self.plots.items() if f"({name})" in text}
        return Page(text, self.licence.file, shown)

    def _metadata(self, *tags: str, base_model: str | None) -> CardData:
        links = self.settings.links
        return metadata_of(
            ModelCardData,
            language=self._languages(),
            **self.licence.keys,
            library_name="transformers",
            pipeline_tag="text-generation",
            tags=[*TAGS, *tags],
            datasets=[links["data"]] if "data" in links else None,
            base_model=base_model,
            base_model_relation="finetune" if base_model else None,
        )

    def _languages(self) -> list[str]:
        """The languages of the text, most first; those of the published mixes where none is known."""
        found = mixes.tokens_by_language(self.figures, self.phases)
        return [one for one in found if one not in ("code", mixes.NOT_STATED)] or LANGUAGES

    def _versions(self) -> Name | None:
        """The packages that trained it, from its manifest."""
        manifest = self.figures.run.pretrain_manifest
        if not self.figures.has(manifest):
            return None
        found = self.figures.value(manifest).get("packages") or {}
        shown = [name for name in ("yulanmini", "torch", "transformers") if name in found]
        return Name(", ".join(f"{name} {found[name]}" for name in shown)) if shown else None


def behind(phases: Sequence[str], last: str | None) -> list[str]:
    """The phases that a model was trained on: up to `last`, or all, without side branches such as 26-4k before it."""
    kept = phases[: phases.index(last) + 1] if last in phases else phases
    return [phase for index, phase in enumerate(kept) if not is_branch(phase) or index == len(kept) - 1]


def stages_of(figures: Figures, *, tuned: bool) -> dict[str, str]:
    """The folders of the stages that made a model, by what a reader calls them."""
    run = figures.run
    stages = {"pretraining": run.pretrain} if run.pretrain else {}
    return stages | {name: folder for name, folder in run.tuned.items() if tuned}


def base_card(figures: Figures, settings: CardSettings) -> Page:
    """Card of the merged base model, a plain Llama."""
    heldout = tables.heldout_table(figures)
    return Training(figures, settings).page(
        "base",
        "merged",
        example=tables.example(figures, "base"),
        size=size_table(figures, f"{figures.run.merged}/config.json"),
        context=figures.figure(f"{figures.run.merged}/config.json", "/max_position_embeddings", ""),
        heldout=heldout,
        scores=tables.score_tables(figures, ["base"], without=["heldout"] if heldout else []),
        merge=tables.merge_table(figures),
        hardware=hardware_table(figures, stages_of(figures, tuned=False)),
    )


def revision_table(figures: Figures) -> Table:
    """The branches of a repo of checkpoints, from its index."""
    rows = []
    for index, branch in enumerate(figures.value(INDEX, "/branches")):
        at = join("branches", index)
        numbers = [figures.figure(INDEX, f"{at}/{key}") for key in ("step", "tokens", "context")]
        optimizer = Name(f"`{branch['optimizer']}`") if branch["optimizer"] else ""
        rows.append([Name(branch["phase"]), *numbers, Name(f"`{branch['revision']}`"), Name(branch["tag"]), optimizer])
    headers = ["phase", "step", "tokens so far", "context", "revision", "tag", "optimizer state"]
    shown = len(headers) if any(row[-1] for row in rows) else len(headers) - 1
    return {"headers": headers[:shown], "rows": [row[:shown] for row in rows], "left": headers[-3:]}


def checkpoints_card(figures: Figures, settings: CardSettings) -> Page:
    """Card of the unmerged checkpoints, one revision per phase."""
    branches: Sequence[dict[str, Any]] = figures.value(INDEX, "/branches")
    return Training(figures, settings).page(
        "checkpoints",
        "checkpoints",
        example=Name(branches[0]["revision"]),
        final=Name(figures.value(INDEX, "/main")),
        has_optimizer=any(branch["optimizer"] for branch in branches),
        revisions=revision_table(figures),
        size=size_table(figures, f"{OWN}config.json"),
        heldout=tables.heldout_table(figures),
        hardware=hardware_table(figures, stages_of(figures, tuned=False)),
    )


def checkpoint_card(figures: Figures, settings: CardSettings) -> Page:
    """Card of one phase's branch."""
    model = f"{figures.run.pretrain}/models/{phase_folder(settings.phase or '')}"
    return Training(figures, settings).page(
        "checkpoint",
        "checkpoints",
        revision=Name(settings.revision),
        phase=Name(settings.phase),
        facts=figures_table(
            figures,
            "",
            ("optimizer steps", f"{model}/{MANIFEST_NAME}", "/counts/step", ","),
            ("longest context, in tokens", f"{model}/config.json", "/max_position_embeddings", ","),
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


def instruct_card(figures: Figures, settings: CardSettings) -> Page:
    """Card of the instruct model: its stages as they came."""
    run = figures.run
    config = f"{run.instruct}/config.json"
    parent = settings.links.get(parent_role(figures))
    return Training(figures, settings).page(
        "instruct",
        *run.tuned,
        "trl",
        base_model=parent,
        parent=parent,
        is_llama=figures.value(config, "/model_type") == "llama",
        context=figures.figure(config, "/max_position_embeddings", ""),
        size=size_table(figures, config),
        example=tables.example(figures, run.models[-1]),
        tuning=tuning_tables(figures),
        scores=tables.score_tables(figures, run.models),
        cost=tables.tuning_cost(figures),
        samples=tables.samples(figures, run.models[-1]),
        hardware=hardware_table(figures, stages_of(figures, tuned=True)),
    )


def model_card(figures: Figures, settings: CardSettings) -> Page:
    """Card of a model's folder by itself: what its config says, its manifest and its merge certificate."""
    folder = figures.run.merged
    config = f"{folder}/config.json"
    file = f"{folder}/{MANIFEST_NAME}"
    manifest = figures.value(file) if figures.has(file) else {}
    merged = figures.has(f"{folder}/{CERTIFICATE_NAME}")
    kind = str(manifest.get("kind", "merged model" if merged else "model"))
    return Training(figures, settings).page(
        "model",
        is_llama=figures.value(config, "/model_type") == "llama",
        context=figures.figure(config, "/max_position_embeddings", ""),
        kind=Name(f"model tuned {STAGES[kind][0]}" if kind in STAGES else kind.replace("-", " ")),
        made_by=Name(", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items())),
        inputs={
            "headers": ["made from", "fingerprint"],
            "rows": [[Name(name), Name(f"`{str(value)[:16]}`")] for name, value in manifest.get("inputs", {}).items()],
            "left": ["fingerprint"],
        },
        size=size_table(figures, config),
        merge=tables.merge_table(figures),
    )
