"""Which files there are: their names, kinds and places, and that they are those that the manifest records."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from data_recipes.manifest import MANIFEST_NAME, fingerprint_of
from hub_cards.checks.subject import Finding, Part, Subject, error, warning
from hub_cards.repos import files
from hub_cards.repos.folder import CARD_NAME, EVIDENCE, KIND, MAIN

HIDDEN_ALLOWED = (".eval_results", ".gitattributes")
# What Windows cannot check out, and what a shell or a URL would read as something else.
STRANGE = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]|[ .]$|^ ')
# A checkout of 260 characters is the most that Windows takes; this leaves as many for where it lies.
LONGEST_NAME = 160
MOST_IN_A_FOLDER = 10_000  # https://huggingface.co/docs/hub/storage-limits
LARGEST_FILE = 50 * 10**9  # the same page; Git LFS takes no larger one
EVIDENCE_SUFFIXES = (*files.TEXT_SUFFIXES, ".csv")


def plain_files(repo: Subject) -> Iterator[Finding]:
    """Files that are none, such as links, and those whose names some machine cannot hold."""
    for path in repo.listing:
        place = path.relative_to(repo.folder).as_posix()
        if path.is_symlink():
            yield error(place, "a symbolic link; a repo holds plain files only. Copy what it points to")
        elif not path.is_file():
            yield error(place, "neither file nor folder; remove it")
        elif path.stat().st_size > LARGEST_FILE:
            yield error(
                place, f"{path.stat().st_size:,} bytes; the Hub takes files of up to {LARGEST_FILE:,}. Shard it"
            )
    for part in repo.parts:
        yield from _names(part)


def _names(part: Part) -> Iterator[Finding]:
    spellings: dict[str, str] = {}
    for name in sorted(part.files):
        steps = PurePosixPath(name).parts
        if any(step.startswith(".") for step in steps if step not in HIDDEN_ALLOWED):
            yield error(part.place(name), "a hidden file; remove it")
        if any(STRANGE.search(step) for step in steps):
            yield error(part.place(name), f"the name {name!r} cannot be held by every file system; rename it")
        if len(name) > LONGEST_NAME:
            yield error(part.place(name), f"a name of {len(name)} characters; give it one of up to {LONGEST_NAME}")
        # Folders count too: on some machines `Data/a` and `data/b` would share one.
        for upto in ("/".join(steps[:depth]) for depth in range(1, len(steps) + 1)):
            spelling = unicodedata.normalize("NFC", upto).casefold()
            if spellings.setdefault(spelling, upto) != upto:
                yield error(part.place(name), f"differs from {spellings[spelling]} by case only; rename one of them")
    crowds = Counter(str(PurePosixPath(name).parent) for name in part.files)
    for folder, count in crowds.items():
        if count > MOST_IN_A_FOLDER:
            message = f"{count:,} files in one folder; the Hub takes {MOST_IN_A_FOLDER:,}. Write fewer, larger ones"
            yield error(part.place(folder), message)


def allow_list(repo: Subject) -> Iterator[Finding]:
    """Files that do not belong in a repo of its type."""
    own = {
        "model": files.MODEL_FILES + files.ADAPTER_FILES,
        "dataset": files.DATASET_FILES,
        "space": files.SPACE_FILES,
    }[repo.type]
    for part in repo.parts:
        for name in sorted(part.files):
            if name.startswith(f"{EVIDENCE}/") and name.endswith(EVIDENCE_SUFFIXES):
                continue
            if not files.allowed(name, files.CARD_FILES + own):
                yield error(part.place(name), f"not on the list of files of a {repo.type} repo; remove it")


def as_recorded(repo: Subject) -> Iterator[Finding]:
    """The files are those of the manifest, byte for byte; a card is its owner's to write in."""
    manifest = repo.manifest
    if manifest is None:
        yield error(MANIFEST_NAME, "missing or not to be read; lay the repo out again (yulanmini hub layout)")
        return
    if not _is_sound(manifest):
        yield error(MANIFEST_NAME, "not of the form that is written when a repo is laid out; lay it out again")
        return
    identity = {key: manifest.get(key) for key in ("kind", "inputs", "config", "seed", "files")}
    if fingerprint_of(identity) != manifest.get("fingerprint"):
        yield error(
            MANIFEST_NAME, "edited since it was written (its fingerprint is of another); lay the repo out again"
        )
    there = {part.place(name): (part, name) for part in repo.parts for name in part.files}
    for place, record in manifest["files"].items():
        if place not in there:
            yield error(place, f"missing, though {MANIFEST_NAME} records it; lay the repo out again")
            continue
        part, name = there[place]
        if name == CARD_NAME:
            continue
        size = (part.folder / name).stat().st_size
        if size != record["bytes"]:
            yield error(place, f"{size:,} bytes, recorded were {record['bytes']:,}; lay the repo out again")
        elif part.sha256(name) != record["sha256"]:
            yield error(place, "not the bytes that were recorded (SHA-256); lay the repo out again")
    if manifest["kind"] == KIND:
        for place in sorted(there.keys() - manifest["files"].keys() - {MANIFEST_NAME}):
            yield error(place, f"not recorded in {MANIFEST_NAME}; remove it, or lay the repo out again")
        yield from _branches_as_recorded(repo, manifest)
    else:
        for place in sorted(there.keys() - manifest["files"].keys() - {MANIFEST_NAME, CARD_NAME}):
            yield warning(place, f"not recorded in {MANIFEST_NAME}, so nothing says where it is from")


def _branches_as_recorded(repo: Subject, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    recorded = manifest["config"].get("branches", [])
    there = [part.name for part in repo.parts if part.name != MAIN]
    for name in sorted(set(recorded) ^ set(there)):
        what = "is recorded as a branch and has no folder" if name in recorded else "has a folder and is not recorded"
        yield error(MANIFEST_NAME, f"the branch {name} {what}; lay the repo out again")


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    recorded = manifest.get("files")
    return (
        isinstance(manifest.get("config"), dict)
        and isinstance(recorded, dict)
        and isinstance(manifest["config"].get("branches", []), list)
        and all(
            isinstance(record, dict) and isinstance(record.get("bytes"), int) and isinstance(record.get("sha256"), str)
            for record in recorded.values()
        )
    )
