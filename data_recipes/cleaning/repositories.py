"""The order of a repository's files in one document: by path, or what is imported before what imports it.

Imports are found by patterns, not parsed: files that no parser takes are ordered too. Python's, C's and C++'s and
JavaScript's are known; of others the path decides.
"""

import posixpath
import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from data_recipes.cleaning.code_files import LANGUAGES, language_of

Order = Literal["path", "dependency"]
_PYTHON = re.compile(
    r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+\(?([\w, \t]*)|import[ \t]+([\w., \t]+))", re.MULTILINE
)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
_SCRIPT = re.compile(r"""(?:\bfrom|\bimport|\brequire\()[ \t]*["'](\.[^"'\n]*)["']""")
_C_LIKE, _SCRIPT_LIKE = ("c", "c++", "objective-c"), ("javascript", "typescript", "vue")
# What a folder is imported by.
_FOLDER_FILES = ("__init__", "index")


class JoinSettings(BaseModel):
    """The key `join` of a config: kept files of one repository become one document, in `joined`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str | None = None
    """The column that names the repository; null: the first folder of the file's path is one."""
    order: Order = "dependency"
    longest: int = Field(100_000, gt=0)
    """Characters of a document; longer repositories are cut between files. 28K tokens are about so many."""
    separator: str = "\n\n"
    headings: bool = True
    """Whether a line of comment before each file names it."""


def imports_of(path: str, text: str) -> list[str]:
    """What a file may import of its repository, as paths without suffix: `/a/b` from the root, `a/b` the end of one."""
    language, folder = language_of(path), posixpath.dirname(_rooted(path))
    if language == "python":
        found = [name for match in _PYTHON.finditer(text) for name in _modules(match, folder)]
    elif language in _C_LIKE:
        found = [name for match in _INCLUDE.finditer(text) for name in (_joined(folder, match[1]), match[1])]
    elif language in _SCRIPT_LIKE:
        found = [_joined(folder, match[1]) for match in _SCRIPT.finditer(text)]
        found += [posixpath.splitext(name)[0] for name in found]
    else:
        found = []
    return sorted(set(found))


def _modules(match: re.Match[str], folder: str) -> list[str]:
    if match[3] is not None:
        return [name.split()[0].replace(".", "/") for name in match[3].split(",") if name.strip()]
    module = match[1].lstrip(".")
    dots = len(match[1]) - len(module)
    base = module.replace(".", "/")
    if dots:
        base = _joined(folder, "../" * (dots - 1) + base)
    names = [posixpath.join(base, name.split()[0]) for name in match[2].split(",") if name.strip()]
    # `from . import x` is of the module x; that the package itself runs first only makes circles.
    return [base, *names] if module else names


def _rooted(path: str) -> str:
    return posixpath.normpath("/" + path.replace("\\", "/").lstrip("/"))


def _joined(folder: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(folder, path))


def ordered(paths: Sequence[str], imports: Sequence[Sequence[str]], order: Order) -> list[int]:
    """The places of files in their order. `imports` is what `imports_of` gave of each.

    A file comes after all that it imports; where imports go in a circle, after those that the path puts before it.
    """
    by_path = sorted(range(len(paths)), key=lambda place: (_rooted(paths[place]), place))
    if order == "path":
        return by_path
    known: dict[str, int] = {}
    for place in by_path:
        for name in _names(paths[place]):
            known.setdefault(name, place)
    rank = {place: number for number, place in enumerate(by_path)}
    needs = [
        sorted({known[name] for name in imports[place] if name in known}, key=rank.__getitem__)
        for place in range(len(paths))
    ]
    result: list[int] = []
    begun = [False] * len(paths)
    for first in by_path:
        # Depth first; a stack of our own, as chains of imports may be longer than Python's.
        stack = [] if begun[first] else [(first, iter(needs[first]))]
        begun[first] = True
        while stack:
            place, left = stack[-1]
            following = next((other for other in left if not begun[other]), None)
            if following is None:
                result.append(place)
                stack.pop()
            else:
                begun[following] = True
                stack.append((following, iter(needs[following])))
    return result


def _names(path: str) -> list[str]:
    """What a file can be called by others: its path and every end of it, with and without suffix."""
    whole = _rooted(path)
    stem = posixpath.splitext(whole)[0]
    if posixpath.basename(stem) in _FOLDER_FILES:
        stem = posixpath.dirname(stem)
    ends = [name for full in (whole, stem) for name in _ends(full)]
    return [whole, stem, *ends]


def _ends(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/".join(parts[first:]) for first in range(len(parts))]


def heading(path: str) -> str:
    """A line of comment that names a file, as its language writes one."""
    comments = next((entry.comments for entry in LANGUAGES if entry.name == language_of(path)), "")
    if "//" in comments:
        return f"// {path}\n"
    if "<!--" in comments:
        return f"<!-- {path} -->\n"
    mark = next((mark for mark in ("--", "%", ";") if f"[ \\t]*{mark}" in comments), "#")
    return f"{mark} {path}\n"


def cut(lengths: Sequence[int], longest: int) -> list[range]:
    """Consecutive files gathered into documents of at most `longest` characters; a longer file is one of its own."""
    documents = []
    first = size = 0
    for place, length in enumerate(lengths):
        if size and size + length > longest:
            documents.append(range(first, place))
            first, size = place, 0
        size += length
    if first < len(lengths):
        documents.append(range(first, len(lengths)))
    return documents
