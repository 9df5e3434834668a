"""RULER: haystacks of the stated length, needles at the stated depths; a reader finds them, a guesser does not."""

import re
from collections import Counter

import pytest

from eval.benchmarks.tasks.ruler.questions import KINDS, make, process_results
from eval.errors import EvalError

LENGTH = 2048


def magic(text):
    """{key: values} of every needle of a text."""
    found = {}
    for key, value in re.findall(r"One of the special magic \w+ for ([\w-]+) is: ([\w-]+)\.", text):
        found.setdefault(key, []).append(value)
    return found


def read(prompt):
    """The answer of one who reads a prompt, and only that, without a mistake."""
    if query := re.search(r"special magic \w+ for ([\w-]+(?:, (?:and )?[\w-]+)*) mentioned", prompt):
        facts = magic(prompt)
        return " ".join(value for key in re.split(r", (?:and )?", query[1]) for value in facts[key])
    if "chain(s) of variable assignment" in prompt:
        text = prompt.rsplit("Memorize and track", 1)[1]
        value = re.search(r"assigned the value (\d+) in the text", text)[1]
        known = set(re.findall(rf"VAR (\w+) = {value}\b", text))
        for name, source in re.findall(r"VAR (\w+) = VAR (\w+)", text):
            if source in known:
                known.add(name)
        return " ".join(sorted(known))
    if "numbered list of words" in prompt:
        text = prompt.rsplit("Below is a numbered list", 1)[1].split("Question:")[0]
        return " ".join(word for word, _ in Counter(re.findall(r"\d+\. (\w+)", text)).most_common(10))
    if "coded text" in prompt:
        text = prompt.split("coded words. ", 1)[1].split("\nQuestion:")[0]
        counts = Counter(text.split())
        del counts["...."]
        return " ".join(word for word, _ in counts.most_common(3))
    if asked := re.search(r"What did (.+?) invent\?", prompt):
        return re.search(rf"{asked[1]} invented the (\w+ \w+)\.", prompt)[1]
    asked = re.search(r"Where was the teacher of (.+?) born\?", prompt)[1]
    teacher = re.search(rf"{asked} was taught by (\w+ \w+)\.", prompt)[1]
    return re.search(rf"{teacher} was born in (\w+ \w+)\.", prompt)[1]


def made(kind, tokenizer, **settings):
    return make(kind=kind, tokenizer=tokenizer, **({"length": LENGTH, "samples": 4} | settings))["test"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_scores_all_and_a_guesser_nothing(kind, word_tokenizer):
    docs = list(made(kind, word_tokenizer))
    for doc, other in zip(docs, docs[1:] + docs[:1], strict=True):
        prompt = f"{doc['input']} {doc['gen_prefix']}"
        assert process_results(doc, [read(prompt)]) == {"recall": 1}
        assert process_results(doc, [read(prompt).upper() + " and so on"]) == {"recall": 1}
        assert process_results(doc, [""]) == {"recall": 0}
        # One who has seen the question but not the text: answers of the same kind, to another question.
        assert process_results(doc, [" ".join(other["outputs"])])["recall"] <= (0.3 if kind == "cwe" else 0)
        assert len(set(doc["outputs"])) == len(doc["outputs"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1024, 4096])
def test_prompts_fill_the_stated_length_and_no_more(kind, length, word_tokenizer):
    room = {"vt": 64, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}.get(kind, 128)
    for doc in made(kind, word_tokenizer, length=length, samples=2):
        used = len(word_tokenizer(f"{doc['input']} {doc['gen_prefix']}")["input_ids"]) + room
        # A unit of haystack (a document of the qa kinds, some entries of the list of cwe) may find no room any more.
        assert length - 200 < used < length


@pytest.mark.parametrize("depth", [0, 30, 50, 100])
def test_a_needle_stands_at_the_stated_depth(depth, word_tokenizer):
    for doc in made("niah_single_2", word_tokenizer, length=4096, depth=depth):
        (needle,), text = doc["needles"], doc["input"]
        assert text.count(needle) == 1
        haystack = text.split("afterwards.\n", 1)[1].rsplit("\nWhat is the special", 1)[0]
        before, behind = (len(word_tokenizer(part)["input_ids"]) for part in haystack.split(needle))
        measured = 100 * before / (before + behind)
        # Measured on the text itself; the next place between two sentences is at most half a sentence away.
        assert abs(measured - depth) < 0.5
        assert abs(measured - doc["depths"][0]) < 0.1


def test_every_needle_stands_where_the_document_says(word_tokenizer):
    for kind in ("niah_multikey_1", "niah_multivalue", "niah_multiquery", "niah_multikey_3", "vt", "qa_1", "qa_2"):
        for doc in made(kind, word_tokenizer):
            assert len(doc["needles"]) == len(doc["depths"])
            places = [doc["input"].index(needle) for needle in doc["needles"]]
            depths = [round(depth, 6) for depth in doc["depths"]]
            assert [depths[i] for i in sorted(range(len(places)), key=places.__getitem__)] == sorted(depths)


def test_questions_are_the_same_again_and_others_for_another_seed_length_or_index(word_tokenizer):
    first = list(made("niah_multikey_2", word_tokenizer))
    assert first == list(made("niah_multikey_2", word_tokenizer))
    assert first[:2] == list(made("niah_multikey_2", word_tokenizer, limit=2))
    different = [made("niah_multikey_2", word_tokenizer, **change) for change in ({"seed": 1}, {"length": 2049})]
    outputs = [tuple(doc["outputs"]) for docs in [first, *different] for doc in docs]
    assert len(set(outputs)) == len(outputs)


def test_keys_of_distractors_are_never_asked_for(word_tokenizer):
    for doc in made("niah_multikey_2", word_tokenizer):
        facts = magic(doc["input"])
        assert len(facts) > 30
        assert all(len(values) == 1 for values in facts.values())
        assert len({value for values in facts.values() for value in values}) == len(facts)


def test_too_short_a_length_is_refused_with_what_is_needed(word_tokenizer):
    for kind in KINDS:
        with pytest.raises(EvalError, match=r"RULER: 60 tokens are too few"):
            made(kind, word_tokenizer, length=60)
    with pytest.raises(EvalError, match="no kind 'niah_9'"):
        made("niah_9", word_tokenizer)


def test_the_suite_asks_thirteen_kinds_and_the_grid_each_length_and_depth(answered):
    result = answered("ruler-4k", lambda prompt, doc, sample: read(prompt), limit=1)
    assert {row["group"]: row["value"] for row in result.rows}["all"] == 1
    assert len(result.rows) == 1 + len(KINDS)
    for prompt, settings, doc in result.asked:
        assert prompt == f"{doc['input']} {doc['gen_prefix']}"
        assert settings["until"] == []
    assert answered("ruler-4k", lambda *_: "I do not know.", limit=1).rows[0]["value"] == 0


def test_the_grid_has_a_row_a_length_and_depth(answered):
    shallow = lambda prompt, doc, sample: read(prompt) if doc["depths"][0] < 45 else "0"  # noqa: E731
    rows = {row["group"]: row["value"] for row in answered("needle-grid-4k", shallow, limit=1).rows}
    assert rows["all"] == rows["all / 1024"] == pytest.approx(5 / 11)
    assert [rows[f"all / 2048 / {depth} %"] for depth in range(0, 101, 10)] == [1] * 5 + [0] * 6
