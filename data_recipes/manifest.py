"""Manifests: a stage's output is a folder that appears whole, records its origin, and can be checked again.

A manifest holds the schema version, the kind of folder, fingerprints of the inputs (content hashes, not
paths), the resolved config, the seed, package versions, counts, and size and SHA-256 of every file. A stage that
fills its folder as it goes writes a claim first. These two files decide what a stage may write to (`folder_state`).
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import xxhash

from data_recipes.errors import DataError, listed, naming_full_disk

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
CLAIM_NAME = "claim.json"
FolderState = Literal["new", "begun", "finished"]
RECORDED_PACKAGES = (
    "yulanmini",
    "torch",
    "transformers",
    "datasets",
    "tokenizers",
    "pyarrow",
    "numpy",
    "trl",
)


# What is published is hashed by SHA-256; what only this machine reads again by xxh3 (128 bits), at a tenth of the cost.
HashName = Literal["sha256", "xxh3"]
HASHES: dict[HashName, Callable[[], Any]] = {"sha256": hashlib.sha256, "xxh3": xxhash.xxh3_128}


def matches_hash(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a file's content has the hash that is recorded of it."""
    hashed_by = next(name for name in HASHES if name in record)
    with path.open("rb") as file:
        return hashlib.file_digest(file, HASHES[hashed_by]).hexdigest() == record[hashed_by]


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_of(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, the same whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


_version = lru_cache(version)  # 4 ms each, and a build asks for them for every folder


def package_versions(names: Sequence[str] = RECORDED_PACKAGES) -> dict[str, str]:
    """Versions of packages, by default those that can change a stage's output, as far as they are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = _version(name)
        except PackageNotFoundError:
            continue
    return versions


def write_manifest(
    folder: Path,
    *,
    kind: str,
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    counts: Mapping[str, Any],
    seed: int | None = None,
    known_hashes: Mapping[str, Mapping[str, Any]] | None = None,
    leave_out: Sequence[str] = (),
    **extra: Any,
) -> dict[str, Any]:
    """Hash every file of `folder` and write its manifest; returns the manifest.

    `known_hashes` (relative name to `{"sha256", "bytes"}`) spares reading large files that were hashed when
    they were written. `leave_out`: files and folders directly in `folder` that are no part of the output.

    `fingerprint` covers what the output is (kind, inputs, config, seed, file hashes), not when or where it
    was made, so two equal builds have equal fingerprints.
    """
    known = known_hashes or {}
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # A hidden `.partial` is what a killed process left of a file; it belongs to nothing.
        if name.split("/")[0] in leave_out or path.name.endswith(".partial"):
            continue
        if path.is_file() and path != folder / MANIFEST_NAME:
            digest = known[name]["sha256"] if name in known else sha256_file(path)
            files[name] = {"sha256": digest, "bytes": path.stat().st_size}
    identity = {"kind": kind, "inputs": dict(inputs), "config": dict(config), "seed": seed, "files": files}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": fingerprint_of(identity),
        **identity,
        "counts": dict(counts),
        "packages": package_versions(),
        **extra,
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return manifest


def read_manifest(folder: Path, *, kind: str | None = None) -> dict[str, Any]:
    """The manifest of a finished folder; `DataError` when there is none, or it is of another kind."""
    path = Path(folder) / MANIFEST_NAME
    if not path.is_file():
        raise DataError(f"{folder}: no {MANIFEST_NAME}; this is not a finished folder. Build it again.")
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:  # UnicodeDecodeError is one too
        raise DataError(f"{path}: not valid JSON ({error}). Delete the folder and build it again.") from error
    schema = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if schema != SCHEMA_VERSION:
        raise DataError(f"{path}: schema version {schema}, expected {SCHEMA_VERSION}. Build the folder again.")
    if kind is not None and manifest["kind"] != kind:
        raise DataError(f"{path}: a folder of kind '{manifest['kind']}', expected '{kind}'.")
    return manifest


def folder_fingerprint(folder: Path) -> str:
    """The manifest's fingerprint where the folder has one, else a hash over its files."""
    if (folder / MANIFEST_NAME).is_file():
        return read_manifest(folder)["fingerprint"]
    return fingerprint_of({path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()})


def verify_files(folder: Path, *, content: bool = True, manifest: Mapping[str, Any] | None = None) -> list[str]:
    """What differs between a folder and its manifest, one line each; empty when nothing does.

    With `content=False` only presence and size are compared, which reads no file. `manifest`: the folder's, where the
    caller has read it already.
    """
    problems = []
    for name, expected in (manifest or read_manifest(folder))["files"].items():
        path = Path(folder) / name
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.stat().st_size != expected["bytes"]:
            problems.append(f"{path}: {path.stat().st_size} bytes, expected {expected['bytes']}")
        elif content and not matches_hash(path, expected):
            problems.append(f"{path}: content differs from what was recorded")
    return problems


def folder_state(folder: Path, *, kind: str, made_from: Mapping[str, Any] | None = None) -> FolderState:
    """Whether a stage of `kind` may write to `folder`; `DataError` where it holds anything else. Touches nothing.

    "new" is absent or empty, "finished" has a manifest of this kind, "begun" a claim. `made_from` must be the same
    there: keys of the manifest (inputs, config, seed), or what was claimed.
    """
    if _is_new(folder):
        return "new"
    advice = f"A folder of kind '{kind}' is to be written. Choose another place, or remove what is there."
    state, found = _label_of(folder)
    if found.get("kind") != kind:
        raise DataError(f"{folder}: holds {_contents(folder, found)}. {advice}")
    if made_from is not None:
        theirs = found.get("made_from", {}) if state == "begun" else {key: found.get(key) for key in made_from}
        changed = differences(theirs, json.loads(json.dumps(made_from)))
        if changed:
            raise DataError(f"{folder}: made from something else:\n{listed(changed)}\n{advice}")
    return state


def claim_folder(folder: Path, *, kind: str, made_from: Mapping[str, Any] | None = None) -> FolderState:
    """As `folder_state`, and a new folder is made and marked with this kind before anything else is written there."""
    state = folder_state(folder, kind=kind, made_from=made_from)
    if state != "new":
        for left_over in folder.glob(f".{CLAIM_NAME}.*.partial"):
            left_over.unlink(missing_ok=True)
        return state
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{CLAIM_NAME}.{os.getpid()}.partial"
    with naming_full_disk(folder):
        partial.write_text(
            json.dumps({"kind": kind, "made_from": made_from or {}}, indent=2, ensure_ascii=False) + "\n"
        )
    try:
        os.link(partial, folder / CLAIM_NAME)  # unlike a rename this fails where another process was quicker
    except (FileExistsError, FileNotFoundError):  # the latter where the quicker one has cleared this up already
        return folder_state(folder, kind=kind, made_from=made_from)
    except OSError:  # a file system without hard links
        partial.rename(folder / CLAIM_NAME)
    finally:
        partial.unlink(missing_ok=True)
    return state


def check_new_folder(folder: Path) -> None:
    """`DataError` unless `folder`, which a stage will write in one go, is absent or empty and can be written."""
    if not _is_new(folder):
        _, found = _label_of(folder)
        raise DataError(
            f"{folder}: exists already and holds {_contents(folder, found)}. Choose another place, or remove it."
        )


def check_new_file(path: Path, *, endings: Sequence[str] = ()) -> None:
    """`DataError` where a file that is to be written at the end of some work could not be, or has a strange ending."""
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder. Give the name of a file.")
    if endings and path.suffix.lower() not in endings:
        raise DataError(f"{path}: ends in '{path.suffix}', expected {', '.join(endings)}.")
    _check_writable(path)


def _is_new(folder: Path) -> bool:
    """Whether a folder is absent or empty; `DataError` where there cannot be one."""
    folder = Path(folder)
    if folder.is_dir():
        # What a kill in `claim_folder` leaves is nothing.
        if not all(path.name.startswith(f".{CLAIM_NAME}.") for path in folder.iterdir()):
            return False
    elif folder.exists() or folder.is_symlink():
        raise DataError(f"{folder}: is not a folder. Choose another place, or remove it.")
    _check_writable(folder)
    return True


def _check_writable(path: Path) -> None:
    nearest = next(place for place in [path, *path.absolute().parents] if place.exists())
    if nearest != path and not nearest.is_dir():
        raise DataError(f"{path}: {nearest} is a file, not a folder. Choose another place.")
    if not os.access(nearest, os.W_OK):
        raise DataError(f"{path}: {nearest} cannot be written to. Choose another place, or change its permissions.")


def _label_of(folder: Path) -> tuple[FolderState, dict[str, Any]]:
    """The manifest of a folder, else its claim, else nothing."""
    labels: dict[str, FolderState] = {MANIFEST_NAME: "finished", CLAIM_NAME: "begun"}
    for name, state in labels.items():
        try:
            found = json.loads((folder / name).read_text())
        except (FileNotFoundError, ValueError):
            continue
        if isinstance(found, dict) and "kind" in found:
            return state, found
    return "begun", {}


def outermost_stage_folder(folder: Path) -> Path:
    """The outermost of `folder` and the folders right around it that stages have made or claimed: moved as one."""
    outermost = folder
    for parent in folder.parents:
        if not _label_of(parent)[1]:
            break
        outermost = parent
    return outermost


def _contents(folder: Path, label: Mapping[str, Any]) -> str:
    if label:
        return f"a folder of kind '{label['kind']}'"
    names = sorted(path.name for path in folder.iterdir())
    return f"other files ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two plain values differ: `config.optimizer.lr: was 0.01, is 0.02`, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in [*old, *(key for key in new if key not in old)]:
            lines += differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        return lines
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line
            for index, (a, b) in enumerate(zip(old, new, strict=True))
            for line in differences(a, b, f"{path}[{index}]")
        ]
    if old == new:
        return []
    if isinstance(old, list) and isinstance(new, list):
        return [f"{path}: had {len(old)} entries, has {len(new)}"]
    return [f"{path}: was {_short(old)}, is {_short(new)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def fsync_tree(folder: Path) -> None:
    """Flush every file and directory below `folder` to the disk."""
    for path in [folder, *folder.rglob("*")]:
        fsync_path(path)


def fsync_path(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_to_readers(folder: Path) -> None:
    """Give files that a library made for their owner alone (0600, as safetensors does) the access that the user's umask
    has just given to `folder`."""
    access = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o777 == 0o600:
            path.chmod(access)


@contextmanager
def whole_folder(destination: Path, *, called: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder that becomes `destination` in one rename, or vanishes on an error.

    A leftover of a killed run (`.NAME.partial` beside it) is emptied first; one that another process is writing is a
    `DataError`. `destination` is absent or empty; a stage that works for long before this asks `check_new_folder` at
    its beginning. `called`: what a message about a full disk names instead.
    """
    destination = Path(destination).resolve()  # a link would stand in the way of the rename
    check_new_folder(destination)
    partial = destination.parent / f".{destination.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    held = os.open(partial, os.O_RDONLY)
    try:
        # The lock goes with the process, however it ends. A folder that another has renamed or removed since it was
        # opened here is not this one any more.
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = partial.exists() and os.path.samestat(os.fstat(held), partial.stat())
    except BlockingIOError:
        is_ours = False
    except OSError:  # a file system without locks
        is_ours = True
    if not is_ours:
        os.close(held)
        raise DataError(f"{destination}: another process is making it. Wait for that, or choose another.")
    try:
        for left_over in partial.iterdir():
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
        with naming_full_disk(called or destination):
            yield partial
            _open_to_readers(partial)
            fsync_tree(partial)
        partial.rename(destination)
        parent = os.open(destination.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(held)
