"""A card as a page: its tables and pictures are there, links go to the other cards, and nothing in it can run."""

from hub_cards.cards.as_html import card_html

CARD = """\
---
license: mit
---

# Tiny

<!-- yours: begin -->
My **own** words.
<!-- yours: end -->

See [me/tiny-data](https://huggingface.co/datasets/me/tiny-data), [me/other](https://huggingface.co/me/other).

![loss](figures/loss.png)

| measure | value |
| :--- | ---: |
| bits | 2.1 |

<details>
<summary>In parts</summary>

- one

</details>

```text
<script>alert(1)</script>
```

<script>alert(2)</script> <img src=x onerror=alert(3)> [here](javascript:alert(4))
"""


def test_a_card_is_shown_as_the_hub_shows_it_and_runs_nothing():
    header, html = card_html(CARD, {"me/tiny-data": "../../../cards/tiny-data.html"})
    assert header == "license: mit"
    assert "<p>My <strong>own</strong> words.</p>" in html
    assert "yours:" not in html
    assert '<a href="../../../cards/tiny-data.html">me/tiny-data</a>' in html
    assert '<a href="https://huggingface.co/me/other">' in html
    assert '<img src="figures/loss.png" alt="loss"' in html
    assert '<td style="text-align:right">2.1</td>' in html
    assert "<details><summary>In parts</summary>" in html
    assert "</details>" in html
    for hostile in ("<script", "<img src=x", 'href="javascript'):
        assert hostile not in html


def test_a_card_without_a_header_is_all_text():
    assert card_html("# Plain\n", {}) == ("", "<h1>Plain</h1>\n")
