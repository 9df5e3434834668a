"""Rewriting steps: notebooks to Markdown, licence headers, C4's rules on lines, tidy text."""

import json

import pytest

from data_recipes.cleaning.steps.base import Batch
from data_recipes.cleaning.steps.licence_headers import LicenceHeaders, LicenceHeadersSettings
from data_recipes.cleaning.steps.notebooks import Notebooks, NotebooksSettings
from data_recipes.cleaning.steps.tidy_text import tidy
from data_recipes.cleaning.steps.web_lines import WebLines, WebLinesSettings

COLUMNS = {"path": [None], "max_stars_repo_path": [None]}
NOTEBOOK = {
    "nbformat": 4,
    "metadata": {"language_info": {"name": "python", "version": "3.7.3"}},
    "cells": [
        {"cell_type": "markdown", "source": ["# Rivers\n", "They flow."]},
        {
            "cell_type": "code",
            "source": "x = 1\nprint('```')",
            "outputs": [
                {"output_type": "stream", "text": ["10%\r", "50%\r", "100%\n", "\x1b[31mred\x1b[0m\n"]},
                {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo", "text/plain": ["<Figure>"]}},
                {"output_type": "execute_result", "data": {"text/html": "<table>", "text/plain": "a b\n1 2"}},
                {"output_type": "error", "ename": "E", "traceback": ["\x1b[1mE\x1b[0m: no"]},
            ],
        },
        {"cell_type": "code", "source": "", "outputs": []},
    ],
}
MARKDOWN = """Python 3.7.3

# Rivers
They flow.

````python
x = 1
print('```')
````

```
100%
red
```

```
<Figure>
```

```
a b
1 2
```

```
E: no
```"""


def rewritten(step, text, file, path=None):
    columns = COLUMNS if path is None else {**COLUMNS, "path": [path]}
    return step.rewrite(Batch("s", [file], [text], columns))[0]


def test_a_notebook_becomes_markdown():
    step = Notebooks(NotebooksSettings())
    assert rewritten(step, json.dumps(NOTEBOOK), "a.ipynb") == MARKDOWN
    assert rewritten(step, json.dumps(NOTEBOOK), "rows.parquet", "x/a.ipynb") == MARKDOWN
    assert rewritten(step, json.dumps(NOTEBOOK), "rows.parquet") == MARKDOWN, "known by what it holds"
    for broken in ("", "{", "[]", "null", "{}", '{"cells": 5}', '{"cells": [5, {"cell_type": "code", "source": 7}]}'):
        assert rewritten(step, broken, "a.ipynb") is None
    text = '{"not": "a notebook"}'
    assert rewritten(step, text, "a.txt") is text


def test_format_3_and_long_outputs():
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Two"},
        {"cell_type": "code", "input": ["y = 2"], "outputs": [{"output_type": "stream", "text": "z" * 50}]},
    ]
    content = {"nbformat": 3, "metadata": {}, "worksheets": [{"cells": cells}]}
    found = rewritten(Notebooks(NotebooksSettings(longest_output=10)), json.dumps(content), "a.ipynb")
    assert found == "## Two\n\n```python\ny = 2\n```\n\n```\nzzzzzzzzzz\n```"


APACHE = "Copyright 2020 Nobody\n{0} Licensed under the Apache License, Version 2.0\n"


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("a.py", "# " + APACHE.format("#") + "\nimport x\n", "import x\n"),
        ("a.py", "#!/bin/python\n# " + APACHE.format("#") + "import x\n", "#!/bin/python\nimport x\n"),
        ("a.c", "/* " + APACHE.format(" *") + " */\n\n#include <x.h>\n", "#include <x.h>\n"),
        ("a.js", "// " + APACHE.format("//") + "let x;", "let x;"),
        ("a.html", "<!-- " + APACHE.format("") + "-->\n<p>x</p>", "<p>x</p>"),
        ("a.hs", "-- " + APACHE.format("--") + "main = x", "main = x"),
        ("a.py", "# What this is for.\nimport x\n", None),
        ("a.py", "import x\n# Copyright 2020 Nobody\n", None),
        ("a.py", "# Copyright 2020 Nobody\n# @generated\nimport x\n", None),
        ("a.md", "# Copyright law\n\nIt begins in 1710.", None),
        ("a.c", "#include <x.h>\n/* Copyright 2020 */\n", None),
    ],
)
def test_licence_headers_are_taken_out_and_nothing_else(file, text, expected):
    step = LicenceHeaders(LicenceHeadersSettings())
    found = rewritten(step, text, file)
    assert found == (text if expected is None else expected)
    assert (found is text) == (expected is None)


def test_a_file_of_nothing_but_a_licence_is_dropped():
    assert rewritten(LicenceHeaders(LicenceHeadersSettings()), "# Copyright 2020\n", "a.py") is None


LINES = [
    "The river rises in the hills.[1] It is long.",
    "Menu",
    "Please enable JavaScript to see this page.",
    "By using this site you agree to the use of cookies.",
    "",
    "Two words",
    "x" * 1001 + " is a very long word",
    "Read it [citation needed] and weep.",
]


def test_lines_are_those_that_datatrove_keeps():
    pytest.importorskip("datatrove")
    from datatrove.data import Document
    from datatrove.pipeline.filters.c4_filters import C4QualityFilter

    document = Document("\n".join(LINES), "x")
    judge = C4QualityFilter(filter_no_terminal_punct=False, min_num_sentences=-1)
    assert judge.filter(document) is True
    ours = rewritten(WebLines(WebLinesSettings()), "\n".join(LINES), "a.txt")
    assert [line for line in ours.split("\n") if line] == document.text.split("\n")
    assert "" in ours.split("\n"), "paragraphs stay apart"


def test_tidy_text():
    assert tidy("\ufeffa \r\nb\u200b\x00c\u3000\n\n\n\n\n\nd\n", 2) == "a\nbc\n\n\nd"
    text = "  as\n\nit was"
    assert tidy(text, 2) is text
    assert tidy(" \n\x00\n", 2) is None
