"""A user's own folder as documents with a domain each; what cannot be read is noted with the reason."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from data_recipes.corpus.installed import Document, split_long
from data_recipes.corpus.records import CODE_SUFFIXES, PATH_COLUMNS, UnreadableFile, is_code, read_records
from data_recipes.corpus.tidy_text import chinese_share
from data_recipes.errors import DataError

LONG_PROSE_CHARACTERS = 20_000  # a single text of this length counts as a book
CHINESE_TEXT_SHARE = 0.3
FORMULA = re.compile(
    r"\\(?:frac|sqrt|sum|prod|int|lim|begin\{(?:align|equation|proof|theorem|lemma|cases|matrix|pmatrix)\*?\}"
    r"|mathbb|mathcal|leq?|geq?|cdot|times|alpha|beta|theta|lambda|sin|cos|log|infty|boxed)(?![a-zA-Z])"
)
FORMULAE_PER_1000_CHARACTERS = 4.0


@dataclass
class Reading:
    """What was done with the files of a folder."""

    used: dict[str, str] = field(default_factory=dict)  # relative path -> SHA-256 of its texts
    skipped: list[dict[str, str]] = field(default_factory=list)  # {"file", "reason"}
    not_needed: int = 0


def list_files(folder: Path) -> list[Path]:
    """All files below a folder (no hidden ones, no linked folders), or `DataError`."""
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"{folder}: no such folder. --corpus expects a folder with your texts.")
    if not folder.is_dir():
        raise DataError(f"{folder}: a file, expected a folder. Give the folder that holds it.")
    unreadable: list[OSError] = []
    found = []
    for place, names, files in os.walk(folder, onerror=unreadable.append):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [Path(place, name).relative_to(folder) for name in files if not name.startswith(".")]
    if not found:
        why = f" ({unreadable[0].strerror})" if unreadable else ""
        raise DataError(f"{folder}: holds no files{why}. Expected .txt, .md, source code, .jsonl or .parquet.")
    return found


def read_folder(
    folder: Path, *, seed: int, reading: Reading, text_column: str | None = None, max_bytes: int
) -> Iterator[tuple[str, Document]]:
    """(domain, document) of each text, files in an order set by their names and the seed.

    Stops opening files once `max_bytes` of files were read. `reading` is filled in as it goes.
    """
    files = list_files(folder)
    files.sort(key=lambda path: sha256(f"{seed}:{path.as_posix()}".encode()).digest())
    total = 0
    for path in files:
        if total >= max_bytes:
            reading.not_needed += 1
            continue
        name = path.as_posix()
        texts = 0
        try:
            digest = sha256()
            for record in read_records(folder / path, text_column=text_column, limit=max_bytes):
                texts += 1
                digest.update(record["text"].encode("utf-8", "surrogatepass"))
                total += len(record["text"])
                yield from documents_of(record, path)
                if total >= max_bytes:
                    break
        except (UnreadableFile, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reading.skipped.append({"file": name, "reason": reason})
        if texts:
            reading.used[name] = digest.hexdigest()
        elif not reading.skipped or reading.skipped[-1]["file"] != name:
            reading.skipped.append({"file": name, "reason": "empty"})


def documents_of(record: dict[str, Any], path: Path) -> Iterator[tuple[str, Document]]:
    """The documents of one text, long ones cut between paragraphs, each part a group of its own."""
    text = record["text"]
    domain = domain_of(text, code_path=code_path_of(record, path))
    language = {"code": "code", "web-zh": "zh"}.get(domain) or ("zh" if chinese_share(text) > 0.3 else "en")
    origin = f"{path.as_posix()}#{record['row']}" if "row" in record else path.as_posix()
    for index, part in enumerate(split_long(text, origin, language, group=origin)):
        yield domain, Document(part.text, part.origin, part.language, group=f"{origin}/{index}")


def code_path_of(record: dict[str, Any], path: Path) -> str | None:
    """The path of a record or file that is source code by its extension; None for other text."""
    if "row" in record:
        named = next((record[key] for key in PATH_COLUMNS if isinstance(record.get(key), str)), "")
        return named if Path(named).suffix.lower() in CODE_SUFFIXES else None
    return path.name if is_code(path) else None


def domain_of(text: str, *, code_path: str | None) -> str:
    """The domain of a text, by the first rule that holds.

    Source code by its extension; mathematics by the number of LaTeX commands; Chinese by its script; books by
    length; English web text otherwise.
    """
    if code_path is not None:
        return "code"
    if len(FORMULA.findall(text)) * 1000 > FORMULAE_PER_1000_CHARACTERS * len(text):
        return "math"
    if chinese_share(text) > CHINESE_TEXT_SHARE:
        return "web-zh"
    if len(text) >= LONG_PROSE_CHARACTERS:
        return "books-papers-encyclopedia"
    return "web-en"
