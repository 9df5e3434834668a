"""What holds for every step that filters by rules, on any text: finite values, shares from 0 to 1, no crash, no
dependence on the texts beside it, no quadratic time."""

import math
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.cleaning.steps.base import AnyStep, Batch, Rewrite, Step
from data_recipes.registry import named_subclasses

NAMES = ("language", "web-rules", "web-rules-zh", "code-rules", "math-rules", "book-rules", "kind")
REWRITES = ("tidy-text", "web-lines", "licence-headers", "notebooks-to-markdown")
PATHS = ("a.py", "a.html", "a.ipynb", "a.c", "a.tex", "a.txt", "a.jsonl")
# Shares by nature; the rest are counts and ratios.
NOT_SHARES = ("per_word", "mean_", "sentence_length", "advertising", "boilerplate")


def made(name):
    kind = named_subclasses(AnyStep)[name]
    return kind(kind.Settings(step=name))


def batch(texts, paths=None):
    files = paths or [PATHS[place % len(PATHS)] for place in range(len(texts))]
    return Batch("s", files, texts, {"path": [None] * len(texts), "max_stars_repo_path": [None] * len(texts)})


STEPS = {name: made(name) for name in (*NAMES, *REWRITES)}
PIECES = [
    "\n",
    "\n\n",
    " ",
    "the ",
    "the ",
    "。",
    "中文",
    "$x$",
    "\\[",
    "\\begin{align}",
    "...",
    "{",
    "#",
    "/*",
    "<!--",
    '"""',
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=20), max_size=40).map("".join)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_values_are_finite_and_of_each_text_alone(name, texts):
    step = STEPS[name]
    found = pa.table(step.signals(batch(texts)), schema=step.schema()).to_pylist()
    assert len(step.reasons("s", pa.Table.from_pylist(found, schema=step.schema()))) == len(texts)
    for row in found:
        for column, value in row.items():
            if isinstance(value, float):
                assert math.isfinite(value)
                assert value >= 0
                assert value <= 1.0 + 1e-9 or any(word in column for word in NOT_SHARES) or "top_" in column, column
    for place, text in enumerate(texts):
        alone = step.signals(batch([text], [PATHS[place % len(PATHS)]]))
        assert pa.table(alone, schema=step.schema()).to_pylist() == [found[place]]


@pytest.mark.parametrize("name", REWRITES)
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_rewriting_twice_changes_nothing_more(name, texts):
    step = STEPS[name]
    once = step.rewrite(batch(texts, ["a.txt"] * len(texts)))
    kept = [text for text in once if text is not None]
    again = step.rewrite(batch(kept, ["a.txt"] * len(kept)))
    assert again == kept
    assert all(new is old for new, old in zip(again, kept, strict=True))


SIZE = 200_000
HOSTILE = {
    "letters": "a",
    "spaces": " ",
    "empty lines": "\n",
    "words": "word ",
    "Chinese": "中",
    "dots": ".",
    "dollars": "$",
    "prices": "$5 ",
    "open comments": "/* ",
    "open tags": "<script ",
    "open brackets": "<!--(*{-",
    "open formulas": "\\[ \\( \\begin{align} ",
    "quotes": "\n\"\"\"\n'''",
    "hexadecimal": "ab ",
    "base64": "abcdEFGH",
    "licences": "# copyright\n",
    "half characters": "\ud800",
    "page numbers": "- 12 -\n",
    "contents": "Chapter ..... 12 x\n",
}


@pytest.mark.parametrize("name", [*NAMES, *REWRITES])
def test_long_and_hostile_texts_take_linear_time(name):
    step = STEPS[name]
    act = step.signals if isinstance(step, Step) else step.rewrite
    act(batch(["warm 中 up $x$"] * len(PATHS)))
    for what, piece in HOSTILE.items():
        text = "x" + piece * (SIZE // len(piece)) + "x"
        for path in ("a.py", "a.html", "a.c") if name in ("code-rules", "licence-headers") else ("a.txt",):
            start = time.process_time()
            act(batch([text], [path]))
            # Quadratic time would be minutes.
            assert time.process_time() - start < 1.5, (what, path)


@pytest.mark.parametrize("name", NAMES)
def test_empty_and_one_character_texts(name):
    step = STEPS[name]
    texts = ["", "a", "中", ".", "\n", "{", "\x00", "\ufffd"]
    assert step.signals(batch(texts)).keys() == set(step.schema().names)


def test_all_are_found_by_name():
    assert {*NAMES, *REWRITES} <= set(named_subclasses(AnyStep))
    assert all(isinstance(STEPS[name], Rewrite) for name in REWRITES)
