"""Ways to spoil a repo on purpose. Copies share their files by hard links, so each is replaced, not written to."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

FIRST = "revisions/phase01-step000035-tokens125K"
SECOND = "revisions/phase02-step000070-tokens251K"
Spoil = Callable[[Path], Any]


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def file(name: str, content: bytes | str) -> Spoil:
    """A file with this content."""
    return lambda repo: put(repo / name, content)


def bytes_of(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    return lambda repo: put(repo / name, change((repo / name).read_bytes()))


def words(name: str, old: str, new: str) -> Spoil:
    """One text for another, which must be there."""

    def spoil(repo: Path) -> None:
        text = (repo / name).read_text()
        assert old in text, text
        put(repo / name, text.replace(old, new))

    return spoil


def json_of(name: str, **changes: Any) -> Spoil:
    """Keys of a JSON file set; None removes one."""

    def spoil(repo: Path) -> None:
        content = json.loads((repo / name).read_text()) | changes
        put(repo / name, json.dumps({key: value for key, value in content.items() if value is not None}))

    return spoil


def header(**changes: Any) -> Spoil:
    """Keys of the card's metadata set; None removes one."""

    def spoil(repo: Path) -> None:
        _, front, body = (repo / "README.md").read_text().split("---\n", 2)
        metadata = yaml.safe_load(front) | changes
        front = yaml.safe_dump({key: value for key, value in metadata.items() if value is not None}, sort_keys=False)
        put(repo / "README.md", f"---\n{front}---\n{body}")

    return spoil


def tensors(change: Callable[[dict[str, torch.Tensor]], Any], name: str = "model.safetensors") -> Spoil:
    """Tensors of a weight file changed, the file whole again."""

    def spoil(repo: Path) -> None:
        weights = {key: value.clone() for key, value in load_file(repo / name).items()}
        change(weights)
        (repo / name).unlink()
        save_file(weights, repo / name, metadata={"format": "pt"})

    return spoil


def safetensors_header(change: Callable[[dict[str, Any]], Any], behind: bytes = b"") -> Spoil:
    """The header of a weight file changed, what follows it kept."""

    def spoil(repo: Path) -> None:
        data = (repo / "model.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        content = json.loads(data[8 : 8 + length])
        change(content)
        text = json.dumps(content).encode()
        put(repo / "model.safetensors", len(text).to_bytes(8, "little") + text + data[8 + length :] + behind)

    return spoil


def shard(change: Callable[[Path, dict[str, Any]], Any]) -> Spoil:
    """The weights in two shards with an index, and then something wrong with them."""

    def spoil(repo: Path) -> None:
        weights = load_file(repo / "model.safetensors")
        (repo / "model.safetensors").unlink()
        names = sorted(weights)
        files = {f"model-0000{part + 1}-of-00002.safetensors": names[part::2] for part in range(2)}
        index = {"metadata": {"total_size": sum(one.nbytes for one in weights.values())}, "weight_map": {}}
        for name, inside in files.items():
            save_file({key: weights[key] for key in inside}, repo / name)
            index["weight_map"] |= dict.fromkeys(inside, name)
        change(repo, index)
        put(repo / "model.safetensors.index.json", json.dumps(index))

    return spoil


def removed(*names: str) -> Spoil:
    return lambda repo: [(repo / name).unlink() for name in names]


def first_number_changed(repo: Path) -> None:
    """A number in a table of the card."""
    text = (repo / "README.md").read_text()
    put(repo / "README.md", re.sub(r"\| 12,345 \|", "| 99,345 |", text))
    assert "99,345" in (repo / "README.md").read_text()
