"""C4's rules on single lines, for English web text: lines of menus, cookie notices and scripts are taken out.

As FineWeb uses them, that is without the rule that a line must end a sentence (Raffel et al. 2020, section 2.2;
datatrove's `C4QualityFilter(filter_no_terminal_punct=False)`). Empty lines stay, as paragraphs depend on them.
"""

import re
from typing import ClassVar, Literal

from pydantic import Field

from data_recipes.cleaning.steps.base import Batch, Rewrite, StepSettings

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
# Chinese, Japanese and Thai have no spaces to count words by.
_NO_SPACES = re.compile("[\u0e01-\u0e2e\u3040-\u30ff\u3400-\u9fff]")
_GAPS = re.compile(r"\n{3,}")


class WebLinesSettings(StepSettings):
    step: Literal["web-lines"] = "web-lines"
    min_words: int = Field(3, ge=0)
    """Words (between spaces) that a line must have. C4."""
    max_word_length: int = Field(1000, ge=1)
    """C4's code: a longer one is data."""
    phrases: tuple[str, ...] = (
        *("javascript", "terms of use", "privacy policy", "cookie policy"),
        *("uses cookies", "use of cookies", "use cookies"),
    )
    """Lines with one of them, in any case, are taken out. C4's code."""
    citations: bool = True
    """Whether marks like [1] and [citation needed] are taken out. C4."""


class WebLines(Rewrite[WebLinesSettings]):
    name: ClassVar[str] = "web-lines"
    Settings = WebLinesSettings
    dropped_as: ClassVar[str] = "no line left"

    def __init__(self, settings: WebLinesSettings) -> None:
        super().__init__(settings)
        self._unwanted = re.compile("|".join(map(re.escape, settings.phrases)) or r"(?!)", re.IGNORECASE)

    def rewrite(self, batch: Batch) -> list[str | None]:
        return [self._kept_lines(text) for text in batch.texts]

    def _kept_lines(self, text: str) -> str | None:
        lines = text.split("\n")
        kept = [self._kept(line) for line in lines]
        if kept == lines:
            return text
        new = _GAPS.sub("\n\n", "\n".join(line for line in kept if line is not None)).strip("\n")
        return new if new.strip() else None

    def _kept(self, line: str) -> str | None:
        words = line.split()
        if not words:
            return line
        if self._unwanted.search(line) or (len(words) < self.settings.min_words and not _NO_SPACES.search(line)):
            return None
        longest = self.settings.max_word_length
        if len(line) > longest and max(map(len, words)) > longest:
            return None
        return _CITATION.sub("", line) if self.settings.citations and "[" in line else line
