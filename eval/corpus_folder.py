"""What scoring reads of a corpus folder: held-out text by domain and unseen problems. Files only, no data code."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.errors import EvalError

HARDER_AT_LEAST = 4


def read_lines(path: Path, *, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file, each with the given keys; `EvalError` names the line that is not."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise EvalError(f"{path}, line {number}: not JSON ({error.msg}).") from error
            missing = [key for key in keys if not isinstance(record, dict) or key not in record]
            if missing:
                raise EvalError(f"{path}, line {number}: no '{missing[0]}'; expected {', '.join(keys)}.")
            yield record


def heldout_texts(corpus: Path, *, bytes_per_domain: int | None) -> dict[str, list[str]]:
    """Held-out documents by domain, the first ones of each up to a number of UTF-8 bytes, at least one."""
    files = sorted((corpus / "heldout").glob("*.jsonl"))
    if not files:
        raise EvalError(f"{corpus}: no heldout/<domain>.jsonl. Give a corpus folder (`yulanmini reproduce` makes one).")
    texts: dict[str, list[str]] = {}
    for path in files:
        size = 0
        chosen: list[str] = []
        for record in read_lines(path, keys=("text",)):
            length = len(record["text"].encode())
            if chosen and bytes_per_domain is not None and size + length > bytes_per_domain:
                continue
            if length:
                chosen.append(record["text"])
                size += length
        if chosen:
            texts[path.stem] = chosen
    return texts


def unseen_problems(corpus: Path, *, per_kind: int | None) -> list[dict[str, Any]]:
    """The held-out problems in the order of the file.

    `per_kind` takes that many of each kind of level 1, and a quarter as many (at least 4) of each harder one,
    whose long answers cost most of the time and tell a small model least.
    """
    path = corpus / "dialogues" / "heldout.jsonl"
    if not path.is_file():
        raise EvalError(f"{path}: no such file; unseen problems are part of a corpus folder.")
    taken: dict[str, int] = {}
    problems = []
    for record in read_lines(path, keys=("messages", "kind", "level", "language", "answer")):
        wanted = per_kind
        if per_kind is not None and record["level"] > 1:
            wanted = min(per_kind, max(HARDER_AT_LEAST, per_kind // 4))
        taken[record["kind"]] = taken.get(record["kind"], 0) + 1
        if wanted is None or taken[record["kind"]] <= wanted:
            problems.append(record)
    if not problems:
        raise EvalError(f"{path}: holds no problems.")
    return problems


def fingerprint(corpus: Path) -> str:
    """The fingerprint of the corpus: its manifest's, or a hash of the files that are scored."""
    manifest = corpus / "manifest.json"
    if manifest.is_file():
        try:
            return str(json.loads(manifest.read_text(encoding="utf-8"))["fingerprint"])
        except (json.JSONDecodeError, KeyError) as error:
            raise EvalError(f"{manifest}: not a manifest ({error}).") from error
    digest = hashlib.sha256()
    for path in sorted([*corpus.glob("heldout/*.jsonl"), *corpus.glob("dialogues/heldout.jsonl")]):
        digest.update(f"{path.relative_to(corpus).as_posix()} ".encode() + path.read_bytes())
    return digest.hexdigest()
