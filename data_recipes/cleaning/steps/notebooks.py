"""Jupyter notebooks as Markdown: text, code and the text of outputs, as the report's notebooks were prepared.

The version of Python becomes a note at the top. Pictures, HTML and widgets in outputs are left out, colours of
terminals and lines that a progress bar wrote over too. What is neither by its name nor by its content a notebook stays.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

import orjson
from pydantic import Field

from data_recipes.cleaning.code_files import PATH_COLUMNS, paths_of
from data_recipes.cleaning.steps.base import Batch, Rewrite, StepSettings

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class NotebooksSettings(StepSettings):
    step: Literal["notebooks-to-markdown"] = "notebooks-to-markdown"
    longest_output: int = Field(2_000, ge=0)
    """Characters of an output that are kept. Ours: longer ones are logs and tables."""


class Notebooks(Rewrite[NotebooksSettings]):
    name: ClassVar[str] = "notebooks-to-markdown"
    Settings = NotebooksSettings
    reads = PATH_COLUMNS
    dropped_as: ClassVar[str] = "a notebook that is empty or cannot be read"

    def rewrite(self, batch: Batch) -> list[str | None]:
        return [
            markdown_of(text, self.settings.longest_output) if is_notebook(text, path) else text
            for text, path in zip(batch.texts, paths_of(batch), strict=True)
        ]


def is_notebook(text: str, path: str | None) -> bool:
    """By its path; where a row has none, by what its JSON holds."""
    return PurePosixPath(path).suffix == ".ipynb" if path else text.lstrip()[:1] == "{" and '"nbformat"' in text


def markdown_of(notebook: str, longest_output: int) -> str | None:
    """The Markdown of a notebook's JSON (format 3 or 4), None where it is none or has no text."""
    try:
        content = orjson.loads(notebook)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    metadata = _mapping(content.get("metadata"))
    # Format 3 has its cells in sheets, of which only one was ever written.
    sheets = content.get("worksheets")
    cells = [cell for sheet in _list(sheets) for cell in _list(_mapping(sheet).get("cells"))] or content.get("cells")
    info = _mapping(metadata.get("language_info"))
    language = str(info.get("name") or _mapping(metadata.get("kernelspec")).get("language") or "python").lower()
    blocks = [block for cell in _list(cells) for block in _blocks(_mapping(cell), language, longest_output)]
    if not blocks:
        return None
    version = info.get("version")
    note = [f"{language.capitalize()} {version}"] if isinstance(version, str) and version else []
    return "\n\n".join(note + blocks)


def _blocks(cell: Mapping[str, Any], language: str, longest_output: int) -> Iterator[str]:
    text = _joined(cell.get("source", cell.get("input")))
    kind = cell.get("cell_type")
    if kind == "heading":
        level = cell.get("level")
        text = f"{'#' * (level if isinstance(level, int) else 1)} {text.strip()}" if text.strip() else ""
    if kind != "code":
        if text.strip():
            yield text.strip("\n")
        return
    if text.strip():
        yield _fenced(text, language)
    for output in _list(cell.get("outputs")):
        shown = _output_text(_mapping(output))[:longest_output].strip("\n")
        if shown.strip():
            yield _fenced(shown, "")


def _output_text(output: Mapping[str, Any]) -> str:
    data = _mapping(output.get("data"))
    if output.get("output_type") in ("error", "pyerr"):
        text = "\n".join(map(str, _list(output.get("traceback"))))
    else:
        text = _joined(data.get("text/plain") or output.get("text"))
    lines = _COLOURS.sub("", text).replace("\r\n", "\n").split("\n")
    # A carriage return goes back to the beginning: what stands behind the last is what was seen.
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _fenced(text: str, language: str) -> str:
    """A block of code, its fence longer than any in it."""
    longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return "\n".join([fence + language, text.strip("\n"), fence])


def _joined(value: Any) -> str:
    """Text as notebooks hold it: a string, or the pieces of one."""
    return "".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
