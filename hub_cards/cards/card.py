"""Writing a repo's card, and making the same card again from the repo alone.

    write_card(folder, settings, run)      README.md, provenance.json and provenance/, from the files of a run
    render_again(folder)                   the text and the provenance that the repo's own files give: the check

What the owner of a repo wrote between the two marked lines of README.md is kept, and is no part of the card.
"""

import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_recipes.files import write_whole
from hub_cards.cards import dataset_card, model_card, samples_card
from hub_cards.cards.evidence import Figures, changed_since, copy_evidence, load
from hub_cards.cards.licences import LICENCE_NAME
from hub_cards.cards.page import Page
from hub_cards.cards.settings import CardSettings
from hub_cards.errors import HubError
from hub_cards.repos.folder import CARD_NAME, EVIDENCE, PROVENANCE_NAME, RepoType
from hub_cards.repos.run_files import RunFiles

BEGIN, END = "<!-- yours: begin -->", "<!-- yours: end -->"
ABOUT_YOURS = "<!-- What stands between the next two lines is yours. It is kept when the card is written again. -->"
ABOUT = (
    "Every number of README.md: the file of the run that it was read from (its copy is in provenance/) and where in it "
    "(JSON pointer); derived numbers with their operands, as file#pointer. `yulanmini hub check` reads them all again."
)


@dataclass(frozen=True)
class Kind:
    """A kind of card: of which type of repo, and how its page is made."""

    type: RepoType
    page: Callable[[Figures, CardSettings], Page]


KINDS: dict[str, Kind] = {
    "checkpoints": Kind("model", model_card.checkpoints_card),
    "checkpoint": Kind("model", model_card.checkpoint_card),
    "base": Kind("model", model_card.base_card),
    "instruct": Kind("model", model_card.instruct_card),
    "model": Kind("model", model_card.model_card),
    "phases": Kind("dataset", dataset_card.phases_card),
    "synthetic": Kind("dataset", samples_card.synthetic_card),
    "cleaned": Kind("dataset", samples_card.cleaned_card),
}


def write_card(folder: Path, settings: CardSettings, run: RunFiles) -> None:
    """Write README.md, provenance.json, provenance/ and where the licence needs one LICENSE into a repo's folder.

    Raises HubError where a file of the run lacks what the card needs, and where README.md is of someone else's making.
    """
    own = _words_to_keep(folder / CARD_NAME)
    # What is there stays whole until the new card is made: a run that lacks a field does not cost the old one.
    copies = folder / f".{EVIDENCE}.{os.getpid()}.partial"
    try:
        records = copy_evidence(run, _candidates(run), copies)
        kept = {"about": ABOUT, "card": settings.written(), "run": _places(run), "files": records}
        text, figures, page = _render(folder, kept, own, copies)
        for name in set(records) - figures.read:
            (copies / name).unlink()
            del records[name]
        _remove_empty_folders(copies)
        shutil.rmtree(folder / EVIDENCE, ignore_errors=True)
        copies.rename(folder / EVIDENCE)
    finally:
        shutil.rmtree(copies, ignore_errors=True)
    _write_beside(folder, page)
    write_whole(folder / PROVENANCE_NAME, _as_json({**kept, "claims": figures.claims}))
    write_whole(folder / CARD_NAME, text)


def render_again(folder: Path) -> tuple[str, dict[str, Any]]:
    """The card that a repo's own files give, with the words of its owner, and its provenance: what README.md and
    provenance.json must hold. HubError where a file lacks what the card needs."""
    return _render_again(folder)[:2]


def _render_again(folder: Path) -> tuple[str, dict[str, Any], Page]:
    if not (folder / PROVENANCE_NAME).is_file():
        raise HubError(f"{folder}: no {PROVENANCE_NAME}, so no repo with a card. `yulanmini hub layout` makes one.")
    kept = load(folder / PROVENANCE_NAME)
    if not isinstance(kept, dict) or not all(isinstance(kept.get(key), dict) for key in ("card", "run", "files")):
        raise HubError(f"{PROVENANCE_NAME}: expected the keys card, run, files and claims. Write the card again.")
    card = folder / CARD_NAME
    own = (owners_words(read_text(card)) or "") if card.is_file() else ""
    text, figures, page = _render(folder, kept, own)
    files = {key: kept[key] for key in ("card", "run", "files")}
    return text, {"about": ABOUT, **files, "claims": figures.claims}, page


def write_again(folder: Path) -> tuple[str, dict[str, Any]]:
    """Write the card that a repo's own files give, with the words of its owner; returns it and its provenance."""
    _words_to_keep(folder / CARD_NAME)
    text, provenance, page = _render_again(folder)
    _write_beside(folder, page)
    write_whole(folder / PROVENANCE_NAME, _as_json(provenance))
    write_whole(folder / CARD_NAME, text)
    return text, provenance


def card_of_run(run: RunFiles, settings: CardSettings) -> tuple[str, dict[str, Any]]:
    """The card that a repo made of a run would have, and its provenance; nothing is written."""
    with tempfile.TemporaryDirectory() as folder:
        write_card(Path(folder), settings, run)
        return render_again(Path(folder))


def trace(folder: Path, run: RunFiles | None = None) -> list[str]:
    """What a repo's card and its provenance say that the repo's own files do not give, and with `run` what of these
    files is no longer what the run has; empty where all agree."""
    try:
        text, provenance, page = _render_again(folder)
    except HubError as error:
        return [str(error)]
    problems = [] if run is None else changed_since(folder, provenance["files"], run.root)
    licence = folder / LICENCE_NAME
    if page.licence is not None and (not licence.is_file() or licence.read_bytes() != page.licence.encode()):
        problems.append(f"{LICENCE_NAME}: not what the files in {EVIDENCE}/ give; write the card again")
    if load(folder / PROVENANCE_NAME) != json.loads(json.dumps(provenance)):
        problems.append(f"{PROVENANCE_NAME}: not what the files in {EVIDENCE}/ give; write the card again")
    found = read_text(folder / CARD_NAME).split("\n")
    for line in difflib.unified_diff(text.split("\n"), found, n=0, lineterm=""):
        if line.startswith("+") and not line.startswith("+++"):
            problems.append(f"{CARD_NAME}: {line[1:]!r} is not what the files in {EVIDENCE}/ give")
        elif line.startswith("-") and not line.startswith("---"):
            problems.append(f"{CARD_NAME}: {line[1:]!r} is missing")
    return problems


def owners_words(card: str) -> str | None:
    """What stands between the marked lines of a card, as it is; None where it has no such lines."""
    lines = card.split("\n")
    marks = [line.strip() for line in lines]
    if BEGIN not in marks or END not in marks:
        return None
    # Markers within the owner's words are the owner's words: the card itself has one pair.
    first, last = marks.index(BEGIN), len(marks) - 1 - marks[::-1].index(END)
    return "\n".join(lines[first + 1 : last]) if first < last else None


def read_text(path: Path) -> str:
    """A text file with the ends of lines that it has."""
    try:
        return path.read_bytes().decode()
    except ValueError as error:
        raise HubError(f"{path}: not UTF-8 ({error}). Save it as UTF-8.") from error


def _words_to_keep(card: Path) -> str:
    if not card.is_file():
        return ""
    own = owners_words(read_text(card))
    if own is None:
        raise HubError(
            f"{card}: has no lines {BEGIN} and {END} between which your own words would be kept. Put them around what "
            "is to stay, or move the file away."
        )
    return own


def _write_beside(folder: Path, page: Page) -> None:
    """LICENSE and plots, as far as the card has them."""
    if page.licence is not None:
        write_whole(folder / LICENCE_NAME, page.licence)
    for name, draw in page.plots.items():
        draw(folder / name)


def _render(folder: Path, kept: dict[str, Any], own: str, copies: Path | None = None) -> tuple[str, Figures, Page]:
    """The card's text with the words of its owner, the figures that it took, and the page as it was made."""
    settings = CardSettings.read(kept["card"])
    if settings.kind not in KINDS:
        raise HubError(f"{PROVENANCE_NAME}: no kind of card '{settings.kind}'. Known: {', '.join(KINDS)}.")
    try:
        run = RunFiles(copies or folder / EVIDENCE, **kept["run"])
    except TypeError as error:
        raise HubError(f"{PROVENANCE_NAME}: run does not name the folders of a run ({error}).") from error
    figures, kind = Figures(run, folder), KINDS[settings.kind]
    try:
        page = kind.page(figures, settings)
    except HubError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise HubError(f"{figures.looked_at}: not of the form that a card is made from ({missing}).") from error
    # A model's answer on the card cannot pass for the line at which the owner's words begin.
    text = page.text.replace("<!-- yours:", "<!-- yours :").rstrip("\n")
    return "\n".join([text, "", ABOUT_YOURS, "", BEGIN, *([own] if own else []), END, ""]), figures, page


def _candidates(run: RunFiles) -> Iterator[str]:
    """The files of a run that any card may read."""
    a_model = ("manifest.json", "config.json")
    read: dict[str, tuple[str, ...]] = {
        run.corpus: ("manifest.json",),
        run.data: ("phase-*/manifest.json", "manifest.json", "summary.json"),
        run.pretrain: (
            *("manifest.json", "config.yaml", "heldout.jsonl", "hardware.json"),
            *(f"models/*/{name}" for name in a_model),
        ),
        run.merged: (*a_model, "merge_certificate.json"),
        **dict.fromkeys(run.tuned.values(), (*a_model, "metrics.jsonl", "hardware.json")),
        run.scores: ("*/scores.json",),
    }
    for folder, patterns in read.items():
        for pattern in patterns if folder else ():
            found = (run.root / folder).glob(pattern)
            yield from (path.relative_to(run.root).as_posix() for path in found if path.is_file())


def _places(run: RunFiles) -> dict[str, Any]:
    """Where a run keeps what, without the folder that it is in."""
    return {key: value for key, value in asdict(replace(run, root=Path())).items() if key != "root" and value}


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted((one for one in folder.rglob("*") if one.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _as_json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
