"""Real text that any machine with this package has: Python's library and what is installed beside it.

Code: source files. English web text: package descriptions, READMEs, API documentation. Reference prose: the
language reference, module documentation, licences. Chinese: message catalogues, Chinese files in packages.
"""

import gettext
import importlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.parser import HeaderParser
from hashlib import sha256
from inspect import cleandoc
from pathlib import Path

from data_recipes.corpus.tidy_text import chinese_share

# Benchmarks, their metrics and prompts must not be trained on; `__pycache__` holds no source text.
EXCLUDED_PACKAGES = ("lm_eval", "lm-eval", "evaluate", "rouge_score", "sacrebleu", "nltk", "__pycache__")
# Ours too: whether this package is installed in place or not must not change the corpus.
OWN_PACKAGES = ("modeling_yulanmini", "data_recipes", "train", "eval", "hub_cards", "yulanmini")
EXCLUDED_FILES = ("top_level.txt", "entry_points.txt", "sources.txt", "requires.txt", "dependency_links.txt")
PROSE_SUFFIXES = (".md", ".rst", ".txt")
LICENCE_NAME = re.compile(r"(?i)licen[sc]e|copying|notice|authors")
DEFINITION = re.compile(r"\b(?:def|class)\s+(\w+)")
MAX_FILE_BYTES = 200_000


@dataclass(frozen=True)
class Document:
    """One text with where it comes from; texts of one `group` stay on one side of the held-out split."""

    text: str
    origin: str
    language: str
    group: str = field(compare=False, default="")

    @property
    def size(self) -> int:
        """Bytes in UTF-8."""
        return len(self.text.encode())

    def as_record(self) -> dict[str, str]:
        return {"text": self.text, "origin": self.origin, "language": self.language}


def size(documents: Iterable[Document]) -> int:
    """Bytes of documents."""
    return sum(document.size for document in documents)


def folders() -> tuple[Path, Path]:
    """Python's own library and the folder of installed packages."""
    paths = sysconfig.get_paths()
    return Path(paths["stdlib"]), Path(paths["purelib"])


def files_in_order(root: Path, suffixes: tuple[str, ...], *, seed: int) -> list[Path]:
    """Files with a suffix, in an order that depends on names and seed only, not on the file system."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith((*EXCLUDED_PACKAGES, "site-packages", "."))]
        relative = Path(folder).relative_to(root)
        if relative == Path():
            names[:] = [name for name in names if name not in OWN_PACKAGES and not name.startswith("yulanmini-")]
        found += [relative / name for name in files if name.lower().endswith(suffixes)]
    return sorted(found, key=lambda path: sha256(f"{seed}:{path.as_posix()}".encode()).digest())


def read_text(path: Path) -> str | None:
    """A small file's text, or None when it is large, unreadable or not UTF-8."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def code_documents(*, seed: int) -> Iterator[Document]:
    """Source files of Python's library and of installed packages, in turn."""
    stdlib, packages = folders()
    own = ((stdlib, "python", path) for path in files_in_order(stdlib, (".py",), seed=seed))
    installed = ((packages, "packages", path) for path in files_in_order(packages, (".py",), seed=seed))
    for pair in zip(own, installed, strict=False):
        for root, label, path in pair:
            text = read_text(root / path)
            if text and 400 <= len(text) <= 24_000 and is_hand_written(text):
                yield Document(text, f"{label}:{path.as_posix()}", "code", group=path.as_posix())


def is_hand_written(text: str) -> bool:
    """Not a table: lines of ordinary length, and more letters than digits and punctuation."""
    lines = text.count("\n") + 1
    letters = sum(map(str.isalpha, text[:4000]))
    return len(text) / lines < 90 and letters > 0.45 * len(text[:4000])


def docstrings(text: str) -> Iterator[tuple[str, str]]:
    """(name of what it documents or "", cleaned text) of each docstring in a Python source."""
    pieces = text.split('"""')
    if len(pieces) % 2 == 0:  # quotation marks in a comment or string: which text is inside is unknown
        return
    for before, inside in zip(pieces[:-1:2], pieces[1::2], strict=True):
        code, _, line = before.rpartition("\n")
        if line.strip(" \trRuU"):
            continue
        code = code.rstrip()
        if code.endswith(":"):
            names = DEFINITION.findall(code[-600:])
        elif all(row.startswith("#") for row in code.splitlines() if row):
            names = [""]
        else:
            continue
        documentation = cleandoc(inside)
        if names and documentation:
            yield names[-1], documentation


def english_documents(*, seed: int) -> Iterator[Document]:
    """Package descriptions and READMEs first, then API documentation."""
    _, packages = folders()
    for path in files_in_order(packages, (*PROSE_SUFFIXES, "metadata"), seed=seed):
        if path.name.lower() in EXCLUDED_FILES or LICENCE_NAME.search(path.name) or "tests" in path.parts:
            continue
        text = read_text(packages / path)
        if text and path.name == "METADATA":
            text = str(HeaderParser().parsestr(text).get_payload())
        if text and is_prose(text) and chinese_share(text) < 0.1:
            yield from split_long(text, f"packages:{path.as_posix()}", "en", group=path.parts[0])
    for path in files_in_order(packages, (".py",), seed=seed):
        text = read_text(packages / path)
        if not text or '"""' not in text:
            continue
        module = ".".join(path.with_suffix("").parts)
        for name, documentation in docstrings(text):
            if 500 <= len(documentation) <= 6_000 and is_prose(documentation):
                title = f"{module}.{name}" if name else module
                yield Document(f"{title}\n\n{documentation}", f"packages:{title}", "en", group=path.as_posix())


def read_topics() -> dict[str, str]:
    """The language reference as Python's help shows it; empty for a Python installed without it."""
    try:
        module = importlib.import_module("pydoc_data.topics")
    except ImportError:
        return {}
    return module.topics


def is_prose(text: str) -> bool:
    """Mostly letters and spaces, and words of ordinary length; keeps tables of numbers out."""
    sample = text[:5000]
    letters = sum(map(str.isalpha, sample))
    return len(text) >= 300 and letters > 0.55 * len(sample) and sample.count(" ") > 0.08 * len(sample)


def reference_documents(*, seed: int) -> Iterator[Document]:
    """The language reference, the documentation of library modules (a document a module), licences."""
    stdlib, packages = folders()
    topics = read_topics()
    for name in sorted(topics, key=lambda name: sha256(f"{seed}:{name}".encode()).digest()):
        yield from split_long(topics[name], f"python:reference/{name}", "en", group=f"reference/{name}")
    for path in files_in_order(packages, ("",), seed=seed):
        if LICENCE_NAME.match(path.name) and not path.suffix.startswith(".py"):
            text = read_text(packages / path)
            if text and is_prose(text):
                yield from split_long(text, f"packages:{path.as_posix()}", "en", group=path.as_posix())
    for path in files_in_order(stdlib, (".py",), seed=seed):
        text = read_text(stdlib / path)
        if text and '"""' in text:
            chapters = [f"{name}: {text}" if name else text for name, text in docstrings(text) if len(text) > 80]
            whole = "\n\n".join(chapters)
            if is_prose(whole):
                title = ".".join(path.with_suffix("").parts)
                yield from split_long(f"{title}\n\n{whole}", f"python:{title}", "en", group=path.as_posix())
    for path in files_in_order(packages, (".py",), seed=seed + 1):
        text = read_text(packages / path)
        if text and '"""' in text:
            whole = "\n\n".join(text for _, text in docstrings(text) if len(text) > 200)
            if len(whole) > 4_000 and is_prose(whole):
                title = ".".join(path.with_suffix("").parts)
                yield from split_long(f"{title}\n\n{whole}", f"packages:{title}", "en", group=path.as_posix())


def chinese_documents(*, seed: int) -> Iterator[Document]:
    """Chinese messages of programs (a catalogue makes documents of about 2,000 characters) and Chinese files."""
    stdlib, packages = folders()
    catalogues = []
    for root in (Path("/usr/share/locale"), Path(sys.prefix) / "share" / "locale"):
        for language in ("zh_CN", "zh_Hans", "zh"):
            catalogues += sorted((root / language / "LC_MESSAGES").glob("*.mo"))
    for path in sorted(catalogues, key=lambda path: sha256(f"{seed}:{path.name}".encode()).digest()):
        yield from catalogue_documents(path)
    for root, label in ((stdlib, "python"), (packages, "packages")):
        for path in files_in_order(root, PROSE_SUFFIXES, seed=seed):
            text = read_text(root / path)
            if text and chinese_share(text) > 0.3:
                yield from split_long(text, f"{label}:{path.as_posix()}", "zh", group=path.as_posix())


def catalogue_documents(path: Path) -> Iterator[Document]:
    """The Chinese sentences of a compiled gettext catalogue, in the catalogue's order."""
    try:
        with path.open("rb") as file:
            messages = gettext.GNUTranslations(file)._catalog.values()  # type: ignore[attr-defined]
    except (OSError, ValueError, UnicodeDecodeError, gettext.struct.error):  # type: ignore[attr-defined]
        return
    sentences = [text.strip() for text in messages if isinstance(text, str) and chinese_share(text) > 0.4]
    sentences = list(dict.fromkeys(text for text in sentences if len(text) >= 12))
    size, page = 0, []
    for sentence in [*sentences, None]:
        if sentence is not None:
            page.append(sentence)
            size += len(sentence)
        if page and (sentence is None or size > 2_000):
            yield Document("\n".join(page), f"messages:{path.stem}", "zh", group=f"messages/{path.stem}/{len(page)}")
            size, page = 0, []


def split_long(text: str, origin: str, language: str, *, group: str, limit: int = 12_000) -> Iterator[Document]:
    """A text as documents of at most about `limit` characters, cut between paragraphs where there are any."""
    page: list[str] = []
    size = 0
    for paragraph in re.split(r"(?<=\n)(?=[ \t]*\n)", text):
        for start in range(0, len(paragraph), limit):
            piece = paragraph[start : start + limit]
            if page and size + len(piece) > limit:
                yield Document("".join(page), origin, language, group=group)
                page, size = [], 0
            page.append(piece)
            size += len(piece)
    if page:
        yield Document("".join(page), origin, language, group=group)
