"""What can be laid out as a repo, found by the manifest of its folder.

lay_out(Path("merged"), Path("hub"), repo_id="me/tiny")      hub/me/tiny, ready to check and to publish
"""

import json
from pathlib import Path
from typing import Any

from data_recipes.errors import near_path
from data_recipes.manifest import CLAIM_NAME, MANIFEST_NAME, read_manifest
from data_recipes.recipes.phases import training_order
from data_recipes.rows.layout import KIND as PHASE_KIND
from data_recipes.rows.verify import phases_in
from hub_cards.cards.card import write_card
from hub_cards.cards.settings import CardSettings
from hub_cards.errors import HubError
from hub_cards.layout.datasets import SAMPLES, phases_draft, samples_draft
from hub_cards.layout.run_repos import checkpoints_draft, run_drafts, write_training_files
from hub_cards.layout.swap import Draft, LaidOut, known_hashes, lay_out_draft, place_state, refuse_foreign
from hub_cards.repos import files
from hub_cards.repos.folder import KIND
from hub_cards.repos.names import Names
from hub_cards.repos.run_files import RunFiles
from train.run.inputs import RUN_KIND

WHAT_CAN_BE = """\
a run of `yulanmini reproduce` or of `train pretrain`; a model folder with a manifest (`model merge`, `model average`,
`train export`, `train sft`, `train dpo`, `train on-policy`); a built phase or the folder of several (`data build`);
generated or cleaned text (`data synthesize`, `data clean`)"""


def drafts_of(source: Path | RunFiles, out: Path, *, repo_id: str, **options: Any) -> list[Draft]:
    """The repos that a folder makes, one but for a run of reproduce. HubError for a folder that makes none.

    Options: `licence`, `title`, `optimizer` (phases whose optimizer states go along), `tokenizer` (of phases, if it
    moved), `progress`; each is for the kinds that it means something to, and refused for others.
    """
    names = Names.parse(repo_id)
    given = {key: value for key, value in options.items() if value}
    licence, title, progress = given.pop("licence", None), given.pop("title", None), given.pop("progress", False)
    if isinstance(source, RunFiles):
        return run_drafts(source, out, names, licence=licence, progress=progress, **given)
    refuse_foreign(Path(out) / repo_id, repo_id)
    settings = CardSettings("model", names.base, licence=licence, title=title)
    kind = kind_of(source)
    takes = {RUN_KIND: {"optimizer"}, PHASE_KIND: {"tokenizer"}}.get(kind, set())
    if unused := set(given) - takes:
        raise HubError(f"--{min(unused)}: means nothing for {source}, a folder of kind '{kind}'. Leave it out.")
    here = source.resolve()
    if kind == RUN_KIND:
        run = RunFiles(here.parent, pretrain=here.name)
        return [checkpoints_draft(run, _of_kind(settings, "checkpoints"), **given)]
    if kind == PHASE_KIND:
        phases = sorted(phases_in(here), key=lambda folder: training_order(folder.name))
        return [phases_draft(phases, _of_kind(settings, "phases"), progress=progress, **given)]
    if kind in SAMPLES:
        return [samples_draft(here, settings)]
    return [model_draft(here, settings)]


def lay_out(source: Path | RunFiles, out: Path, *, repo_id: str, **options: Any) -> list[LaidOut]:
    """Write `out`/NAMESPACE/NAME for each repo that `source` makes; arguments as of `drafts_of`.

    A repo made from the same before is kept; an older one is replaced in a swap, the owner's words in its cards kept.
    """
    return [
        lay_out_draft(Path(out) / draft.repo_id, draft) for draft in drafts_of(source, out, repo_id=repo_id, **options)
    ]


def would_lay_out(source: Path | RunFiles, out: Path, *, repo_id: str, **options: Any) -> list[tuple[Path, str]]:
    """What `lay_out` would do: each repo's folder, and "new", "same" or "older"; raises what it raises."""
    drafts = drafts_of(source, out, repo_id=repo_id, **options)
    return [(Path(out) / draft.repo_id, place_state(Path(out) / draft.repo_id, draft)) for draft in drafts]


def phases_repo(folder: Path, out: Path, *, repo_id: str | None = None, **options: Any) -> Draft:
    """Built phases as the one repo `out`; options as of `drafts_of`."""
    repo_id = repo_id or f"your-name/{out.resolve().name}"
    refuse_foreign(out, repo_id)
    phases_in(folder)  # of all that can be laid out, phases only
    (draft,) = drafts_of(folder, out, repo_id=repo_id, **options)
    return draft


def kind_of(folder: Path) -> str:
    """The kind of a folder that can be laid out; HubError for any other, which says what can be."""
    if not folder.is_dir():
        raise HubError(f"{folder}: no such folder.{near_path(folder)}")
    manifest, claim = (_label(folder / name) for name in (MANIFEST_NAME, CLAIM_NAME))
    kind = str(manifest.get("kind") or claim.get("kind") or "")
    if kind == KIND:
        raise HubError(f"{folder}: is a laid-out repo already. Check it, or publish it.")
    if kind == RUN_KIND or (kind in SAMPLES and manifest):
        return kind
    if (folder / "config.json").is_file():
        if manifest:
            return "model"
        raise HubError(
            f"{folder}: a model without {MANIFEST_NAME}, so nothing says what it was made from. `model merge`, "
            "`model average` and `train export` write one."
        )
    if any(_label(path).get("kind") == PHASE_KIND for path in folder.glob(f"*/{MANIFEST_NAME}")) or kind == PHASE_KIND:
        return PHASE_KIND
    found = f"a folder of kind '{kind}'" if kind else "nothing of ours"
    raise HubError(f"{folder}: {found}. What can be laid out: {' '.join(WHAT_CAN_BE.split())}.")


def model_draft(folder: Path, settings: CardSettings) -> Draft:
    """A model folder by itself, with what its manifest and its merge certificate say."""
    manifest = read_manifest(folder)
    run = RunFiles(folder.parent, merged=folder.name)

    def write(repo: Path) -> dict[str, Any]:
        files.copy_allowed(folder, repo, files.MODEL_FILES, run=folder.parent)
        if (folder / "config.yaml").is_file():
            write_training_files(run, repo, folder.name)
        write_card(repo, settings, run)
        return dict(known_hashes(folder, repo, repo))

    inputs = {"model": manifest["fingerprint"]}
    kept = {"licence": settings.licence, "title": settings.title}
    return Draft(settings.repo_id, "model", inputs, write, settings=kept)


def _of_kind(settings: CardSettings, kind: str) -> CardSettings:
    return CardSettings(kind, settings.repo_id, licence=settings.licence, title=settings.title)


def _label(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
