"""Which files may go into a repo, and copying them there: an allow-list, no links, no secrets, no machine's paths."""

import re
import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from hub_cards.errors import HubError
from hub_cards.repos.folder import INDEX_NAME

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
)
ADAPTER_FILES = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
CARD_FILES = (
    "README.md",
    "LICENSE",
    INDEX_NAME,
    "manifest.json",
    "provenance.json",
    *(f"provenance/{'*/' * depth}*" for depth in range(6)),
    "scores.json",
    "metrics.jsonl",
    "heldout.jsonl",
    "training_config.yaml",
    ".eval_results/*.yaml",
    ".gitattributes",
)
DATASET_FILES = ("recipes/*.yaml", "data/*/*.arrow", "data/*/*.parquet", "data/*/*.json", "*/*.jsonl", "*/*/*.jsonl")
TEXT_SUFFIXES = (".json", ".jsonl", ".yaml", ".yml", ".md", ".txt", ".py", ".jinja")

SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "an API key": re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}\b"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
}
HOME_FOLDER = re.compile(r"(?:/home|/Users)/[A-Za-z0-9._-]+/|/root/|[A-Z]:\\+Users\\+")


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
    """Copy the files of `source` that are on the list.

    In text files the absolute path of `run` becomes `.`: it names a folder of this machine.
    """
    for path in repo_files(source):
        name = path.relative_to(source).as_posix()
        if not allowed(name, patterns):
            continue
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in TEXT_SUFFIXES:
            copy_text(path, target, run=run)
        else:
            shutil.copyfile(path, target)


def copy_text(source: Path, target: Path, *, run: Path) -> None:
    """Copy a text file, the absolute path of `run` in it replaced by `.`."""
    target.write_text(without_run_path(source.read_text(encoding="utf-8"), run), encoding="utf-8")


def without_run_path(text: str, run: Path) -> str:
    return text.replace(str(run.resolve()), ".").replace(str(run.absolute()), ".")


def scan(path: Path, *, token: str | None) -> tuple[list[str], list[str]]:
    """(secrets, folders of a machine) that a text file mentions, as sentences that do not repeat the secret."""
    text = path.read_text(encoding="utf-8", errors="replace")
    secrets = []
    for what, pattern in SECRETS.items():
        match = pattern.search(text)
        if match is not None:
            line = text.count("\n", 0, match.start()) + 1
            secrets.append(f"line {line} holds {what}; remove it, and revoke it if it was ever public")
    if token and token in text:
        secrets.append("holds your own access token; remove it")
    match = HOME_FOLDER.search(text)
    return secrets, [f"mentions a folder of a machine: {match[0]}"] if match else []
