"""Text without what no reader sees: one kind of line end, no control characters, no spaces at line ends.

Words and their order stay. It comes first in a config, so that lines that look alike are alike.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from data_recipes.cleaning.steps.base import Batch, Rewrite, StepSettings

_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\x85]")
# Control characters but tab and line feed, marks that show nothing, byte-order marks, halves of surrogate pairs. The
# joiners U+200C and U+200D stay: Persian and emoji need them.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u2060\ufeff\ufff9-\ufffb\ud800-\udfff]")
# From the first space of a run on, so that a long run inside a line is read once.
_TRAILING_SPACE = re.compile(r"(?<![ \t\u00a0\u3000])[ \t\u00a0\u3000]++(?=\n|\Z)")


class TidyTextSettings(StepSettings):
    step: Literal["tidy-text"] = "tidy-text"
    empty_lines: Annotated[int, Field(ge=0)] = 2
    """At most so many in a row."""


class TidyText(Rewrite[TidyTextSettings]):
    name: ClassVar[str] = "tidy-text"
    Settings = TidyTextSettings

    def rewrite(self, batch: Batch) -> list[str | None]:
        return [tidy(text, self.settings.empty_lines) for text in batch.texts]


def tidy(text: str, empty_lines: int) -> str | None:
    """The tidy text, the same object where it was tidy; None where nothing is left."""
    new = _UNSEEN.sub("", _LINE_ENDS.sub("\n", text))
    new = _TRAILING_SPACE.sub("", new)
    new = re.sub(f"\n{{{empty_lines + 2},}}", "\n" * (empty_lines + 1), new).strip("\n")
    if not new.strip():
        return None
    return text if new == text else new
