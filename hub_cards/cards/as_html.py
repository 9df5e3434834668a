"""A card as HTML, to be looked at without the Hub: its header, and its text without anything that could run."""

import re
from collections.abc import Mapping

from markdown_it import MarkdownIt

HEADER = re.compile(r"\A---\s*\n(?P<yaml>.*?)\n---\s*\n", re.DOTALL)
COMMENT = re.compile(r"^<!--.*?-->\s*?$", re.DOTALL | re.MULTILINE)
FOLDED = re.compile(r"<p>&lt;details&gt;\n&lt;summary&gt;(.*?)&lt;/summary&gt;</p>")
PLACE = re.compile(r'href="https://huggingface\.co/(?:datasets/|spaces/)?([^/"]+/[^/"]+)"')


def card_html(card: str, pages: Mapping[str, str]) -> tuple[str, str]:
    """The YAML header of a card, and its text as HTML. Links to repos that have one of `pages` go there.

    Markup inside the card stays text, but for the folding of a table: a model's answers may hold any.
    """
    header = HEADER.match(card)
    text = COMMENT.sub("", card[header.end() :] if header else card)
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    html = FOLDED.sub(r"<details><summary>\1</summary>", html).replace("<p>&lt;/details&gt;</p>", "</details>")
    html = PLACE.sub(lambda found: f'href="{pages[found[1]]}"' if found[1] in pages else found[0], html)
    return (header["yaml"] if header else ""), html
