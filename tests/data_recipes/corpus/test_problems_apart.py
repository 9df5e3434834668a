"""Held-out problems are in no training text: read back from what a run has written, and by what they ask."""

import json
import shutil
from zlib import crc32

import pyarrow.parquet as pq
import pytest
from problems_in_texts import normalized, problems_of_dialogue, problems_of_document, read_block

from data_recipes.corpus.build import generated
from data_recipes.synthesis.programs import draw
from data_recipes.synthesis.programs.documents import heldout_dialogues, training_dialogues
from data_recipes.synthesis.programs.run import ProgramsRequest, synthesize_programs

DOMAINS = ("math", "instruction-synthetic")


def lines_of(path):
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def problems_of_side(corpus, side):
    """(kind, operands, question) of every problem on a side: documents of both generated domains, and dialogues."""
    found = [
        one
        for domain in DOMAINS
        for row in lines_of(corpus / side / f"{domain}.jsonl")
        if row["origin"].startswith("generated:")
        for one in problems_of_document(row["text"])
    ]
    dialogues = [
        one for row in lines_of(corpus / "dialogues" / f"{side}.jsonl") for one in problems_of_dialogue(row["messages"])
    ]
    return found + dialogues


def identities(problems):
    return {repr(kind.identity(operands)) for kind, operands, _ in problems}


def shared(train, heldout):
    """What is on both sides: problems by what they ask, and questions by their text."""
    asked = identities(train) & identities(heldout)
    texts = {normalized(question) for *_, question in train} & {normalized(question) for *_, question in heldout}
    return asked, texts


@pytest.fixture(scope="module")
def corpus(smoke_run):
    return smoke_run / "01-corpus"


@pytest.mark.slow
def test_no_heldout_problem_of_a_run_is_in_its_training_texts(corpus):
    train, heldout = problems_of_side(corpus, "train"), problems_of_side(corpus, "heldout")
    assert len(train) > 1_500
    assert len(heldout) > 200
    assert len({kind.name for kind, *_ in train}) == len({kind.name for kind, *_ in heldout}) == 30
    assert shared(train, heldout) == (set(), set())


def test_problems_of_the_verb_are_apart_from_what_is_scored(corpus, tmp_path):
    """Also those of other seeds, levels and folders: the side depends on what is asked alone."""
    folders = {}
    for side in ("train", "heldout"):
        request = ProgramsRequest(count=3_000, levels=(1, 2, 3), seed=11, side=side)
        synthesize_programs(request, tmp_path / side)
        rows = pq.read_table(tmp_path / side / "samples").to_pylist()
        folders[side] = [read_block(f"{row['prompt']}\n{row['response']}") for row in rows]
    assert shared(folders["train"], problems_of_side(corpus, "heldout")) == (set(), set())
    assert shared(problems_of_side(corpus, "train"), folders["heldout"]) == (set(), set())


def test_the_reader_tells_when_a_heldout_problem_is_planted(corpus, tmp_path):
    """In another language, order and kind of text than it is scored in."""
    planted = tmp_path / "corpus"
    shutil.copytree(corpus, planted)
    scored = next(row for row in lines_of(corpus / "dialogues" / "heldout.jsonl") if row["kind"] == "larger")
    ((kind, operands, _),) = problems_of_dialogue(scored["messages"])
    a, b = operands[::-1]
    path = planted / "train" / "instruction-synthetic.jsonl"
    row = {"text": f"问：请选出较大的数。\n{a}、{b}\n答：\n{max(a, b)}", "origin": "generated:instruction-synthetic"}
    path.write_text(path.read_text(encoding="utf-8") + json.dumps(row) + "\n", encoding="utf-8")
    asked, _ = shared(problems_of_side(planted, "train"), problems_of_side(planted, "heldout"))
    assert asked == {repr(kind.identity(operands))}


def test_a_split_by_wording_order_or_kind_is_found_out(monkeypatch):
    """What would leak: a side that depends on the operands as they are asked, or on the kind alone."""

    def careless(kind, operands):
        return crc32(repr((kind.name, operands)).encode()) % 10 == 0

    def texts(heldout):
        documents = generated("instruction-synthetic", seed=1, heldout=heldout)
        make = heldout_dialogues(60, seed=1) if heldout else training_dialogues(1_500, seed=1)
        found = [one for _ in range(150) for one in problems_of_document(next(documents).text)]
        return found + [one for row in make for one in problems_of_dialogue(row["messages"])]

    assert shared(texts(False), texts(True))[0] == set()
    monkeypatch.setattr(draw, "is_heldout", careless)
    asked, _ = shared(texts(False), texts(True))
    assert len(asked) > 8
