"""Manifests: a stage's output is a folder that appears whole, says where it came from, and can be re-checked.

A manifest holds the schema version, the kind of folder, fingerprints of the inputs (content hashes, not
paths), the resolved config, the seed, package versions, counts, and size and SHA-256 of every file.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
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


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_of(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, the same whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a stage's output, as far as they are installed."""
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = version(name)
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
    **extra: Any,
) -> dict[str, Any]:
    """Hash every file of `folder` and write its manifest; returns the manifest.

    `known_hashes` (relative name to `{"sha256", "bytes"}`) spares reading large files that were hashed when
    they were written.

    `fingerprint` covers what the output is (kind, inputs, config, seed, file hashes), not when or where it
    was made, so two equal builds have equal fingerprints.
    """
    known = known_hashes or {}
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # A hidden `.partial` is what a killed process left of a file; it belongs to nothing.
        if path.is_file() and path != folder / MANIFEST_NAME and not path.name.endswith(".partial"):
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
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON ({error}). Delete the folder and build it again.") from error
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema version {manifest.get('schema_version')}, expected {SCHEMA_VERSION}. "
            "Build the folder again."
        )
    if kind is not None and manifest["kind"] != kind:
        raise DataError(f"{path}: a folder of kind '{manifest['kind']}', expected '{kind}'.")
    return manifest


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
            problems.append(f"{path}: {path.stat().st_size} bytes, manifest says {expected['bytes']}")
        elif content and sha256_file(path) != expected["sha256"]:
            problems.append(f"{path}: content differs from the manifest's SHA-256")
    return problems


def fsync_tree(folder: Path) -> None:
    """Flush every file and directory below `folder` to the disk."""
    for path in [folder, *folder.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `destination` in one rename, or vanishes on an error.

    A leftover of a killed run (`.NAME.partial` beside it) is removed first. `destination` must not exist.
    """
    destination = Path(destination)
    if destination.exists():
        raise DataError(f"{destination}: exists already. Remove it or choose another folder.")
    partial = destination.parent / f".{destination.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
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
