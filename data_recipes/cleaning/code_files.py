"""What is known of a file of code by its name: its language, and how that writes comments and names other files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from data_recipes.cleaning.steps.base import Batch

PATH_COLUMNS = ("path", "max_stars_repo_path")
"""Where rows say which file they hold: The Stack v2 and most others, StarCoder data."""
# A row of these has a document without a name of its own.
_CONTAINERS = {".jsonl", ".json", ".ndjson", ".parquet", ".arrow", ".csv", ".tsv", ".gz", ".zst", ".bz2", ".xz"}

_HASH = r"^[ \t]*#.*$"
_PYTHON = rf"""{_HASH}|^[ \t]*[rRuU]?(?P<quote>\"\"\"|''').*?(?:(?P=quote)|\Z)"""
_C = r"(?:^|(?<=[\s;{}(),]))//.*$|/\*.*?(?:\*/|\Z)"
_DASHES = r"^[ \t]*--.*$|/\*.*?(?:\*/|\Z)"
_HASKELL = r"^[ \t]*--.*$|\{-.*?(?:-\}|\Z)"
_PERCENT = r"^[ \t]*%.*$"
_SEMICOLON = r"^[ \t]*;.*$"
_MARKUP = r"<!--.*?(?:-->|\Z)"
_PHP = rf"{_C}|{_HASH}"
_NONE = r"(?!)"


@dataclass(frozen=True)
class CodeLanguage:
    name: str
    suffixes: str
    comments: str
    """A regular expression. Lines end with `.*$`. A block that nothing ends goes to the end of the text, so that no
    text takes quadratic time."""


LANGUAGES = (
    CodeLanguage("python", ".py .pyi .pyx .pxd", _PYTHON),
    CodeLanguage("notebook", ".ipynb", _NONE),
    CodeLanguage("c", ".c .h", _C),
    CodeLanguage("c++", ".cc .cpp .cxx .hpp .hh .hxx .inl .cu .cuh", _C),
    CodeLanguage("c#", ".cs", _C),
    CodeLanguage("java", ".java", _C),
    CodeLanguage("kotlin", ".kt .kts", _C),
    CodeLanguage("scala", ".scala", _C),
    CodeLanguage("javascript", ".js .mjs .cjs .jsx", _C),
    CodeLanguage("typescript", ".ts .tsx .mts", _C),
    CodeLanguage("go", ".go", _C),
    CodeLanguage("rust", ".rs", _C),
    CodeLanguage("swift", ".swift", _C),
    CodeLanguage("dart", ".dart", _C),
    CodeLanguage("objective-c", ".m .mm", _C),
    CodeLanguage("verilog", ".v .sv .vh", _C),
    CodeLanguage("php", ".php", _PHP),
    CodeLanguage("ruby", ".rb", _HASH),
    CodeLanguage("perl", ".pl .pm", _HASH),
    CodeLanguage("shell", ".sh .bash .zsh", _HASH),
    CodeLanguage("powershell", ".ps1", _HASH),
    CodeLanguage("r", ".r .R", _HASH),
    CodeLanguage("julia", ".jl", _HASH),
    CodeLanguage("elixir", ".ex .exs", _HASH),
    CodeLanguage("cmake", ".cmake", _HASH),
    CodeLanguage("make", ".mk", _HASH),
    CodeLanguage("nix", ".nix", _HASH),
    CodeLanguage("lua", ".lua", _DASHES),
    CodeLanguage("sql", ".sql", _DASHES),
    CodeLanguage("haskell", ".hs", _HASKELL),
    CodeLanguage("elm", ".elm", _HASKELL),
    CodeLanguage("lean", ".lean", r"^[ \t]*--.*$|/-.*?(?:-/|\Z)"),
    CodeLanguage("ocaml", ".ml .mli", r"\(\*.*?(?:\*\)|\Z)"),
    CodeLanguage("erlang", ".erl .hrl", _PERCENT),
    CodeLanguage("tex", ".tex .sty .cls .bib", _PERCENT),
    CodeLanguage("lisp", ".lisp .el .clj .cljs .scm .rkt", _SEMICOLON),
    CodeLanguage("assembly", ".asm .s .S", rf"{_SEMICOLON}|{_HASH}|{_C}"),
    CodeLanguage("fortran", ".f90 .f95 .f03 .f", r"^[ \t]*!.*$|^[cC*].*$"),
    CodeLanguage("html", ".html .htm .xhtml", _MARKUP),
    CodeLanguage("xml", ".xml .xsd .xsl .svg", _MARKUP),
    CodeLanguage("css", ".css .scss .less", _C),
    CodeLanguage("vue", ".vue", rf"{_C}|{_MARKUP}"),
    CodeLanguage("json", ".json .jsonc", _NONE),
    CodeLanguage("yaml", ".yaml .yml", _HASH),
    CodeLanguage("toml", ".toml .ini .cfg", _HASH),
    CodeLanguage("proto", ".proto", _C),
    CodeLanguage("graphviz", ".dot .gv", _C),
)
# Files that are named, not suffixed.
_NAMES = {
    "Makefile": "make",
    "GNUmakefile": "make",
    "CMakeLists.txt": "cmake",
    "Dockerfile": "shell",
    "Rakefile": "ruby",
    "Gemfile": "ruby",
}
_BY_SUFFIX = {suffix: language.name for language in LANGUAGES for suffix in language.suffixes.split()}


def paths_of(batch: Batch) -> list[str | None]:
    """The path of each document: what its row says, else its file's, None for a row of a file of many."""
    paths: list[str | None] = []
    for place, file in enumerate(batch.files):
        told = (batch.columns[column][place] for column in PATH_COLUMNS if column in batch.columns)
        path = next((path for path in told if isinstance(path, str) and path), None)
        paths.append(path or (None if PurePosixPath(file).suffix in _CONTAINERS else file))
    return paths


def language_of(path: str | None) -> str | None:
    """The language of a file by its name, None if it is not one of code."""
    if path is None:
        return None
    file = PurePosixPath(path)
    return _NAMES.get(file.name) or _BY_SUFFIX.get(file.suffix) or _BY_SUFFIX.get(file.suffix.lower())


@cache
def comment_pattern(language: str | None) -> re.Pattern[str]:
    """Finds the comments of a language, docstrings of Python included; nothing where it is not known."""
    found = next((entry.comments for entry in LANGUAGES if entry.name == language), _NONE)
    # `.*$` ends at the line, `.*?` before the end of a block may pass many.
    lines = found.replace(".*$", "[^\n]*$")
    return re.compile(lines, re.MULTILINE | re.DOTALL)


def comment_characters(texts: Sequence[str], languages: Sequence[str | None]) -> list[int]:
    """How many characters of each text are comments."""
    return [
        sum(match.end() - match.start() for match in comment_pattern(language).finditer(text))
        for text, language in zip(texts, languages, strict=True)
    ]
