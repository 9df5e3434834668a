"""Rules for English web text: the verdicts of datatrove on the same words, and planted junk."""

import random
import re
from functools import cache
from importlib import import_module

import numpy as np
import pyarrow as pa
import pytest

from data_recipes.cleaning.steps.base import Batch
from data_recipes.cleaning.steps.web_rules import REASONS, WebRules, WebRulesSettings
from data_recipes.cleaning.words import split_words

GOOD = (
    "The river rises in the hills to the north of the town and flows past the old mill. "
    "People have fished there for as long as anyone can remember. In the spring the water is high, "
    "and the fields on both banks are flooded for a week or two. Nobody seems to mind. "
    "The farmers say that the mud is good for the grass, and the children wait for the day when boats "
    "can be rowed over the meadows. By June everything is green again, and the mill wheel turns slowly."
)


def judged(texts, **settings):
    step = WebRules(WebRulesSettings(**settings))
    batch = Batch(source="web", files=["a"] * len(texts), texts=texts, columns={})
    return step.reasons("web", pa.table(step.signals(batch), schema=step.schema()))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, None),
        ("Too short to be of use to anyone.", "fewer than 50 words"),
        (GOOD.replace(" ", " # "), "more than 0.1 hash signs a word"),
        ("\n".join("- " + part for part in GOOD.split(". ")), "more than 90% of lines with bullets"),
        ("\n".join(part + "..." for part in GOOD.split(". ")), "more than 30% of lines ending in an ellipsis"),
        (
            " ".join(f"{n + 1000} {n * 777 + 5000} of the matter" for n in range(60)),
            "fewer than 80% of words with letters",
        ),
        (" ".join(f"kala{n}x mira{n}y tova{n}z." for n in range(30)), "fewer than 2 different stop words"),
        ("\n\n".join([GOOD, GOOD, GOOD]), "more than 30% of paragraphs repeated"),
        (GOOD + " the best price to be had" * 40, "one 2-gram makes more than 20%"),
        (GOOD + " Lorem ipsum dolor sit amet.", "lorem ipsum"),
        (GOOD.replace("the", "{the}"), "more than 0.03 curly brackets a word"),
        (GOOD.replace(".", ","), "fewer than 12% of lines end a sentence"),
        (re.sub(r"(\w+ \w+) ", r"\1.\n", GOOD), "more than 67% of lines short"),
        (GOOD[:-1].replace(".", ",") + ".", "fewer than 5 sentences"),
    ],
)
def test_junk_is_dropped_for_what_it_is(text, reason):
    assert judged([text]) == [reason]


def test_a_rule_without_a_limit_drops_nothing():
    off = dict.fromkeys(REASONS)
    assert judged(["", "x", "{" * 500, "lorem ipsum"], **off) == [None] * 4


def made_documents(count):
    """Texts near the limits of the rules: sentences of few words, repeated lines and paragraphs, lists."""
    random.seed(7)
    vocabulary = [
        "the",
        "be",
        "to",
        "of",
        "and",
        "mill",
        "river",
        "boat",
        "x1",
        "2024",
        "#",
        "...",
        "{",
        "grass",
        "fields",
    ]
    documents = []
    for _ in range(count):
        words = random.sample(vocabulary, random.randint(3, len(vocabulary)))
        unique = [f"{random.choice(words)}{random.randint(0, 10 ** random.randint(1, 4))}" for _ in range(200)]
        sentences = [
            " ".join(random.choice(words + unique[: random.randint(0, 200)]) for _ in range(random.randint(2, 15)))
            + random.choice([".", ".", ".", "", "...", "!"])
            for _ in range(random.randint(1, 25))
        ]
        lines = [
            random.choice(["", "", "", "- ", "• "]) + " ".join(random.choices(sentences, k=random.randint(1, 4)))
            for _ in range(random.randint(1, 20))
        ]
        lines += random.choices(lines, k=random.choice([0, 0, 0, 2, 6]))
        documents.append(random.choice(["\n", "\n", "\n\n"]).join(lines))
    return documents


# By limit of ours: the filter of datatrove with the same rule, and the name of its argument or place of its n-gram.
QUALITY, REPETITION, FINEWEB = "gopher_quality_filter", "gopher_repetition_filter", "fineweb_quality_filter"
SAME_RULES = {
    "min_words": (QUALITY, "min_doc_words"),
    "max_words": (QUALITY, "max_doc_words"),
    "min_mean_word_length": (QUALITY, "min_avg_word_length"),
    "max_mean_word_length": (QUALITY, "max_avg_word_length"),
    "max_bullet_lines": (QUALITY, "max_bullet_lines_ratio"),
    "max_ellipsis_lines": (QUALITY, "max_ellipsis_lines_ratio"),
    "min_words_with_letters": (QUALITY, "max_non_alpha_words_ratio"),
    "min_stop_words": (QUALITY, "min_stop_words"),
    "max_copied_lines": (REPETITION, "dup_line_frac"),
    "max_copied_paragraphs": (REPETITION, "dup_para_frac"),
    "max_copied_paragraph_characters": (REPETITION, "dup_para_char_frac"),
    **{f"max_top_{n}gram": (REPETITION, "top_n_grams") for n in (2, 3, 4)},
    **{f"max_repeated_{n}grams": (REPETITION, "dup_n_grams") for n in (5, 6, 7, 8, 9, 10)},
    "min_ended_lines": (FINEWEB, "line_punct_thr"),
    "max_short_lines": (FINEWEB, "short_line_thr"),
    "max_copied_line_characters": (FINEWEB, "char_duplicates_ratio"),
    "max_line_feeds_per_word": (FINEWEB, "new_line_ratio"),
}
ALL_OFF = {
    QUALITY: dict.fromkeys(argument for module, argument in SAME_RULES.values() if module == QUALITY)
    | {"max_symbol_word_ratio": None},
    REPETITION: dict.fromkeys(argument for module, argument in SAME_RULES.values() if module == REPETITION)
    | {"top_n_grams": (), "dup_n_grams": (), "dup_line_char_frac": None},
    FINEWEB: {"line_punct_thr": 0, "short_line_thr": 1, "char_duplicates_ratio": 1, "new_line_ratio": 100},
}


@pytest.fixture(scope="module")
def documents():
    # Blank lines count as lines in one of datatrove's filters and not in the others.
    return [re.sub("\n+", "\n", text) for text in made_documents(100)] + made_documents(100)


@pytest.fixture(scope="module")
def signals(documents):
    step = WebRules(WebRulesSettings())
    return step.signals(Batch(source="web", files=["a"] * len(documents), texts=documents, columns={}))


@cache
def our_words(text, language):
    words = split_words([text])
    return [text[start:end].lower() for start, end in zip(words.starts, words.ends, strict=True)]


@pytest.mark.parametrize("field", SAME_RULES)
def test_datatrove_judges_the_same_words_the_same(field, documents, signals, monkeypatch):
    pytest.importorskip("datatrove")
    from datatrove.data import Document

    name, argument = SAME_RULES[field]
    module = import_module(f"datatrove.pipeline.filters.{name}")
    monkeypatch.setattr(module, "split_into_words", our_words)
    judge = {QUALITY: "GopherQualityFilter", REPETITION: "GopherRepetitionFilter", FINEWEB: "FineWebQualityFilter"}[
        name
    ]
    column = "web_" + field.partition("_")[2]
    here = documents[:100] if field == "max_bullet_lines" or field == "max_ellipsis_lines" else documents
    off = dict.fromkeys(REASONS)
    compared = 0
    for limit in np.quantile(signals[column], [0.2, 0.5, 0.8]):
        limit = float(round(limit, 2)) + 0.001
        ngram = re.search(r"\d+", field)
        value = ((int(ngram.group()), limit),) if ngram else limit
        theirs = getattr(module, judge)(**ALL_OFF[name] | {argument: value})
        ours = judged(here, **off | {field: limit})
        for text, reason in zip(here, ours, strict=True):
            assert (theirs.filter(Document(text, "x")) is True) == (reason is None), (text, reason)
        compared += 0 < sum(reason is None for reason in ours) < len(ours)
    assert compared, "no limit divides the documents"
