"""The form of an answer with several parts: each behind its mark on a line's beginning, an end mark after the last."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_recipes.synthesis.kinds.answer_text import is_refusal, without_code
from data_recipes.synthesis.kinds.base import Rejected

END = "<END>"


@dataclass(frozen=True)
class Form:
    """`marks`: what stands in brackets before each part, in order, such as `Problem`. Its field is in lower case."""

    marks: Sequence[str]

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(mark.lower() for mark in self.marks)

    def parse(self, text: str) -> dict[str, str]:
        """The parts by field. `Rejected` where one is missing, empty, given twice or out of order, and without end.

        Marks in fenced code are code. What stands before the first part is left out: models like to say "Sure!".
        """
        prose = without_code(text)
        body, end, rest = prose.partition(END)
        if not end:
            raise Rejected(f"no {END}")
        if END in rest:
            raise Rejected(f"{END} twice")
        if rest.strip() or text[len(body) + len(end) :].strip():
            raise Rejected(f"text after {END}")
        found = list(self._pattern.finditer(body))
        names = [mark["mark"].lower() for mark in found]
        for mark, field in zip(self.marks, self.fields, strict=True):
            if field not in names:
                raise Rejected(f"no [{mark}] part")
            if names.count(field) > 1:
                raise Rejected(f"[{mark}] twice")
        if names != list(self.fields):
            raise Rejected("parts in another order")
        ends = [mark.start() for mark in found[1:]] + [len(body)]
        spans = {name: (mark.end(), end) for name, mark, end in zip(names, found, ends, strict=True)}
        for (start, stop), mark in zip(spans.values(), self.marks, strict=True):
            if not text[start:stop].strip():
                raise Rejected(f"empty [{mark}] part")
            if is_refusal(text[start:stop]):
                raise Rejected("refusal")
            if any(f"[{other}]".lower() in prose[start:stop].lower() for other in self.marks):
                raise Rejected("a mark inside a part")
        return {name: text[start:stop].strip() for name, (start, stop) in spans.items()}

    @property
    def _pattern(self) -> re.Pattern[str]:
        names = "|".join(map(re.escape, self.marks))
        decoration = r"(?:#{1,6}[ \t]*)?\*{0,2}"
        return re.compile(rf"^[ \t]*{decoration}\[(?P<mark>{names})\]:?\*{{0,2}}:?[ \t]*", re.MULTILINE | re.IGNORECASE)
