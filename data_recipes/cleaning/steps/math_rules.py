"""Rules for mathematical text: those for English web text on the prose between the formulas, and rules for formulas.

Web rules drop pages of formulas for what formulas are made of: curly brackets, signs, short lines, few words with
letters. Here each formula counts as one word, and the limits of what is left are wider; the text itself stays as it is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_recipes.cleaning.limits import Limit, RuleStep
from data_recipes.cleaning.measures import shares
from data_recipes.cleaning.steps.base import Batch, StepSettings
from data_recipes.cleaning.steps.web_rules import REASONS as WEB_REASONS
from data_recipes.cleaning.steps.web_rules import english_schema, english_signals

FORMULA = re.compile(
    r"\$\$(?:[^$\\]|\\.)++\$\$"
    r"|(?<![\\$])\$(?![\s$])(?:[^$\\\n]|\\.){0,1000}?(?<!\s)\$(?![\d$])"
    r"|\\\[.+?(?:\\\]|\Z)"
    r"|\\\(.+?(?:\\\)|\Z)"
    r"|\\begin\{((?:equation|align|gather|multline|eqnarray|displaymath|math|array|[pbvBV]?matrix|cases|split)\*?)\}"
    r".*?(?:\\end\{\1\}|\Z)",
    re.DOTALL,
)
# What a formula becomes before prose is measured, and what MathJax and Wikipedia show where none could be made.
_IN_PLACE = " formula "
_FAILED = re.compile(
    r"\[Math Processing Error\]|Math input error|Failed to parse|\[Unparseable or potentially dangerous latex",
    re.IGNORECASE,
)
_ASKED_REASONS = (
    *("min_words", "max_words", "min_mean_word_length", "max_mean_word_length", "max_hashes_per_word"),
    *("max_ellipses_per_word", "max_bullet_lines", "max_ellipsis_lines", "min_words_with_letters"),
    *("max_copied_paragraphs", "max_copied_lines", "max_copied_line_characters", "max_top_2gram"),
    *("max_top_3gram", "max_top_4gram", "max_repeated_5grams", "max_repeated_10grams", "max_lorem_ipsum"),
)
REASONS = {
    "max_failed_formulas": "more than {:.0f} formulas that could not be shown",
    "max_open_formulas": "more than {:.0f} formulas that nothing ends",
    "max_formula_characters": "more than {:.0%} formulas",
    "min_formulas_or_digits": "less than {:.1%} formulas, digits and signs of arithmetic",
    **{field: WEB_REASONS[field] for field in _ASKED_REASONS},
}


class MathRulesSettings(StepSettings):
    step: Literal["math-rules"] = "math-rules"
    short_line: int = Field(30, ge=0)

    max_failed_formulas: Limit = 2  # ours: OpenWebMath drops these pages before, with its extraction
    max_open_formulas: Limit = 0  # ours: a page cut in the middle of a formula
    max_formula_characters: Limit = 0.95  # ours: a table of formulas without a sentence
    min_formulas_or_digits: Limit = 0.01  # ours: of characters; below it is no text with mathematics in it

    # Gopher's, wider where formulas have left their mark. None of Gopher's stop words, FineWeb's and C4's rules: proofs
    # and answers are short, break lines at each step, and hold curly brackets.
    min_words: Limit = 25  # ours: Gopher 50; question and answer pairs are short
    max_words: Limit = 100_000
    min_mean_word_length: Limit = None  # ours: Gopher 3; names of variables in prose, and Chinese
    max_mean_word_length: Limit = 10
    max_hashes_per_word: Limit = 0.1
    max_ellipses_per_word: Limit = 0.2  # ours: Gopher 0.1; "1, 2, ..., n"
    max_bullet_lines: Limit = 0.9
    max_ellipsis_lines: Limit = 0.3
    min_words_with_letters: Limit = 0.4  # ours: Gopher 0.8; worked arithmetic
    max_copied_lines: Limit = 0.3
    max_copied_paragraphs: Limit = 0.3
    max_copied_line_characters: Limit = 0.2  # Gopher
    # Ours: Gopher 0.20, 0.18, 0.16. In a short text the first run of long words is already that much.
    max_top_2gram: Limit = 0.3
    max_top_3gram: Limit = 0.3
    max_top_4gram: Limit = 0.3
    max_repeated_5grams: Limit = 0.3  # ours: Gopher 0.15; steps of a calculation repeat words
    max_repeated_10grams: Limit = 0.2  # ours: Gopher 0.10
    max_lorem_ipsum: Limit = 0  # C4


class MathRules(RuleStep[MathRulesSettings]):
    name: ClassVar[str] = "math-rules"
    Settings = MathRulesSettings
    prefix: ClassVar[str] = "math_"
    reasons_by_limit: ClassVar[Mapping[str, str]] = REASONS

    def schema(self) -> pa.Schema:
        own = [("math_formulas", pa.int64()), ("math_failed_formulas", pa.int64()), ("math_open_formulas", pa.int64())]
        own += [("math_formula_characters", pa.float64()), ("math_formulas_or_digits", pa.float64())]
        return pa.unify_schemas([pa.schema(own), english_schema("math_")])

    def signals(self, batch: Batch) -> dict[str, Sequence[Any]]:
        lengths = np.array([len(text) for text in batch.texts])
        formulas, opened = zip(*map(formulas_of, batch.texts), strict=True) if len(batch) else ((), ())
        prose = [
            FORMULA.sub(_in_place, text) if found else text for text, found in zip(batch.texts, formulas, strict=True)
        ]
        in_formulas = np.array([sum(map(len, found)) for found in formulas])
        signs = np.array([len(_SIGN.findall(text)) for text in prose])
        columns: dict[str, Any] = {
            "math_formulas": [len(found) for found in formulas],
            "math_failed_formulas": [len(_FAILED.findall(text)) for text in batch.texts],
            "math_open_formulas": [int(is_open) for is_open in opened],
            "math_formula_characters": shares(in_formulas, lengths),
            "math_formulas_or_digits": shares(in_formulas + signs, lengths),
            **english_signals(prose, "math_", short_line=self.settings.short_line),
        }
        return columns


_SIGN = re.compile(r"[0-9+=<>≤≥±×÷√∑∫∞≈≠∈⊂∪∩→⇒^]")


def formulas_of(text: str) -> tuple[list[str], bool]:
    """The formulas of a text, and whether one more begins that nothing ends."""
    found = [match.group() for match in FORMULA.finditer(text)]
    is_open = bool(found) and _is_open(found[-1])
    return found[:-1] if is_open else found, is_open


def _in_place(match: re.Match[str]) -> str:
    return match.group() if _is_open(match.group()) else _IN_PLACE


def _is_open(formula: str) -> bool:
    """Whether nothing ends a formula that begins with a bracket or an environment; only the last of a text can be."""
    ends = {"\\[": "\\]", "\\(": "\\)"}.get(formula[:2])
    if formula.startswith("\\begin"):
        return "\\end{" not in formula
    return ends is not None and not formula.endswith(ends)
