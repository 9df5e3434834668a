"""A model's folder and a repo's revisions, checked without reading the weights or running any of their code."""

import json
import struct
from pathlib import Path

from hub_cards.errors import HubError
from hub_cards.repos.folder import INDEX_NAME, REVISIONS
from hub_cards.repos.names import parse_revision


def model_problems(model: Path, repo: Path) -> list[tuple[str, str]]:
    """(place, message) for a config that loads foreign code, and for weights that are missing or cut short."""

    def at(name: str) -> str:
        return (model / name).relative_to(repo).as_posix()

    place = at("config.json")
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [(place, "missing")]
    except ValueError as error:
        return [(place, f"not valid JSON ({error})")]
    internal = [key for key in config if key.endswith("_internal")]
    problems = [(place, f"'{key}' is an internal key that loads code; remove it") for key in internal]
    for name, target in (config.get("auto_map") or {}).items():
        code = f"{str(target).split('.')[0]}.py"
        if "--" in str(target):
            problems.append((place, f"auto_map {name} takes code from another repo ({target})"))
        elif not (model / code).is_file():
            problems.append((place, f"auto_map {name}: no file {code}"))
    names = ["model.safetensors"]
    index = model / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        problems += [(at(name), message) for message in safetensors_problems(model / name)]
    if not (model / "tokenizer.json").is_file():
        problems.append((at("tokenizer.json"), "missing"))
    return problems


def safetensors_problems(path: Path) -> list[str]:
    """Problems of a safetensors file: its length must match its header; the weights are not read."""
    if not path.is_file():
        return ["missing"]
    size = path.stat().st_size
    with path.open("rb") as file:
        length_bytes = file.read(8)
        length = struct.unpack("<Q", length_bytes)[0] if len(length_bytes) == 8 else size
        if length > size - 8:
            return [f"truncated: {size:,} bytes do not hold its header"]
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return ["its header is not valid; this is no safetensors file"]
    expected = 8 + length + max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
    return [] if size == expected else [f"truncated: {size:,} bytes, its header says {expected:,}"]


def revision_problems(repo: Path) -> list[str]:
    """Revisions that are only a folder of `revisions/` or only in checkpoints.json, and malformed names."""
    folders = sorted(path.name for path in (repo / REVISIONS).glob("*") if path.is_dir())
    index = repo / INDEX_NAME
    if not index.is_file():
        return ["missing, and there are revisions"] if folders else []
    problems = []
    entries = json.loads(index.read_text(encoding="utf-8")).get("branches", [])
    for name in folders:
        try:
            parse_revision(name)
        except HubError as error:
            problems.append(str(error))
    indexed = sorted(entry["revision"] for entry in entries)
    if indexed != folders:
        different = sorted(set(indexed) ^ set(folders))
        problems.append(f"it and the folders of {REVISIONS}/ differ: {', '.join(different)}")
    return problems
