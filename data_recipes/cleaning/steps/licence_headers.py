"""Licence and copyright notices at the top of code files, taken out: they are the same in thousands of files.

A notice is the first comment of a file, or its first lines of comments, if it speaks of a licence. What stands before
it (`#!`, encoding, `<?php`) stays. Notices that are not at the top stay.
"""

import re
from typing import ClassVar, Literal

from pydantic import Field

from data_recipes.cleaning.code_files import GENERATED, PATH_COLUMNS, PROSE, language_of, paths_of
from data_recipes.cleaning.steps.base import Batch, Rewrite, StepSettings

# StarCoder took the same out of its Java and JavaScript; the words are those of the licences of the Blue Oak list.
_NOTICE = re.compile(
    r"copyright|\(c\) \d{4}|©|all rights reserved|licen[cs]ed? (?:under|to)|SPDX-License-Identifier"
    r"|redistribution and use|permission is hereby granted|general public license|apache license|mit license"
    r"|bsd[- ]style|public domain|版权所有|许可证",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"(?:#![^\n]*\n|[^\n]{0,3}-\*-[^\n]*-\*-[^\n]*\n|#[^\n]*coding[:=][^\n]*\n|<\?php[ \t]*\n|<\?xml[^\n]*\n|[ \t]*\n)*"
)
# The comment at the place where it begins. Groups of lines end where a line is no comment.
_COMMENT = re.compile(
    r"/\*.*?\*/[ \t]*\n?"
    r"|<!--.*?-->[ \t]*\n?"
    r"|\(\*.*?\*\)[ \t]*\n?"
    r"|\{-.*?-\}[ \t]*\n?"
    r"|(?:[ \t]*//[^\n]*(?:\n|\Z))+"
    r"|(?:[ \t]*#(?!include|define|if|pragma|import|!)[^\n]*(?:\n|\Z))+"
    r"|(?:[ \t]*--[^\n]*(?:\n|\Z))+"
    r"|(?:[ \t]*%[^\n]*(?:\n|\Z))+"
    r"|(?:[ \t]*;[^\n]*(?:\n|\Z))+",
    re.DOTALL,
)


class LicenceHeadersSettings(StepSettings):
    step: Literal["licence-headers"] = "licence-headers"
    longest: int = Field(20_000, ge=100)
    """Characters of the longest comment that is looked at. A whole licence text of GPL 2 has 18,000."""


class LicenceHeaders(Rewrite[LicenceHeadersSettings]):
    name: ClassVar[str] = "licence-headers"
    Settings = LicenceHeadersSettings
    reads = PATH_COLUMNS
    dropped_as: ClassVar[str] = "nothing but a licence"

    def rewrite(self, batch: Batch) -> list[str | None]:
        return [
            text if language_of(path) in (None, *PROSE) else without_notice(text, self.settings.longest)
            for text, path in zip(batch.texts, paths_of(batch), strict=True)
        ]


def without_notice(text: str, longest: int) -> str | None:
    """A file's text without the notice at its top, the same object if it has none; None if it is all there is."""
    before = _BEFORE.match(text, 0, longest)
    start = before.end() if before else 0
    found = _COMMENT.match(text, start, start + longest)
    if not found or found.end() == start + longest or not _NOTICE.search(found.group()):
        return text
    if GENERATED.search(found.group()):
        return text  # says what `code-rules` drops the file for
    rest = text[:start].rstrip("\n") + "\n" * bool(text[:start].strip()) + text[found.end() :].lstrip("\n")
    return rest if rest.strip() else None
