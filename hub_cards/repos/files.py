"""Which files may go into a repo, and copying them there: an allow-list, no links, no machine's paths."""

import os
import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from hub_cards.errors import HubError
from hub_cards.repos.folder import INDEX_NAME
from hub_cards.repos.machine_paths import without_machine_paths

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "configuration_*.py",
    "modeling_*.py",
    "merge_certificate.json",
    "training_state.json",
    "optimizer/state.safetensors",
    "optimizer/state-?????-of-?????.safetensors",
    "optimizer/state.safetensors.index.json",
)
ADAPTER_FILES = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
CARD_FILES = (
    "README.md",
    "LICENSE",
    INDEX_NAME,
    "manifest.json",
    "provenance.json",
    *(f"provenance/{'*/' * depth}*" for depth in range(6)),
    "plots/*.png",
    "scores.json",
    "metrics.jsonl",
    "heldout.jsonl",
    "training_config.yaml",
    ".eval_results/*.yaml",
    ".gitattributes",
)
TOKENIZER_FILES = tuple(
    f"tokenizer/{name}"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
)
DATASET_FILES = (
    "recipes/*.yaml",
    "data/*/*.arrow",
    "data/*/*.parquet",
    "data/*/*.json",
    "*/*.jsonl",
    "*/*/*.jsonl",
    "*/*.parquet",
    *TOKENIZER_FILES,
)
SPACE_FILES = ("app.py", "requirements.txt", "space.json", "report.html")
TEXT_SUFFIXES = (".json", ".jsonl", ".yaml", ".yml", ".md", ".txt", ".py", ".jinja")


def allowed(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name, relative to its repo, is on the list; `*` does not reach across folders."""
    # With as many slashes in both, no `*` can stand for one.
    return any(name.count("/") == pattern.count("/") and fnmatch(name, pattern) for pattern in patterns)


def repo_files(folder: Path) -> Iterator[Path]:
    """Every file of a repo's folder; HubError for a link or anything else that is no plain file."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise HubError(f"{path}: a symbolic link; a repo holds plain files only. Copy what it points to.")
        if path.is_dir():
            continue
        if not path.is_file():
            raise HubError(f"{path}: neither file nor folder; remove it.")
        yield path


def copy_allowed(source: Path, destination: Path, patterns: Iterable[str], *, run: Path) -> None:
    """Put the files of `source` that are on the list below `destination`.

    Large ones, which nothing edits in place, by hard link where that is possible; of text, copies in which the
    absolute path of `run` is `.`: it names a folder of this machine.
    """
    for path in repo_files(source):
        name = path.relative_to(source).as_posix()
        if not allowed(name, patterns):
            continue
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in TEXT_SUFFIXES:
            target.write_text(without_run_path(path.read_text(encoding="utf-8"), run), encoding="utf-8")
        else:
            link_or_copy(path, target)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name of a file, where both are on one file system that can give it; else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def copy_text(source: Path, target: Path, *, run: Path) -> None:
    """Copy a record of a run without this machine's paths, as cards copy the files that they are made from."""
    target.write_text(without_machine_paths(source.read_text(encoding="utf-8"), run), encoding="utf-8")


def without_run_path(text: str, run: Path) -> str:
    return text.replace(str(run.resolve()), ".").replace(str(run.absolute()), ".")
