"""A real mixed corpus with planted copies, benchmark items and junk: what the whole pipeline finds, and what it leaves.

The texts are those that any machine with this package has. The judge of what is a near duplicate is written anew here,
from the texts, word by word.
"""

import json
import random
import re
from collections import defaultdict
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from data_recipes.cleaning.clean import clean
from data_recipes.cleaning.config import checked_config
from data_recipes.cleaning.pipeline.inputs import parse_inputs
from data_recipes.cleaning.pipeline.summary import read_summary
from data_recipes.corpus import installed

pytestmark = pytest.mark.slow
CONFIG = Path(__file__).parents[3] / "data_recipes" / "cleaning" / "configs" / "mixed.yaml"
SIMILARITY = 0.8
ITEMS = [
    (
        "A baker sells {} loaves on each of the first {} days of the week and twice as many on Saturday.",
        "How many loaves",
    ),
    ("Write a function that takes a list of {} integers and returns the {} largest of them in order.", "Return a list"),
    (
        "A train leaves the station at {} o'clock and travels {} kilometres at a constant speed towards the coast.",
        "When",
    ),
]


def words(text: str) -> list[str]:
    """Runs of letters and digits, ideographs one by one, in lower case."""
    return re.findall(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+", text.lower())


def jaccard(one: str, other: str) -> float:
    sets = [{tuple(found[at : at + 5]) for at in range(max(len(found) - 4, 1))} for found in (words(one), words(other))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def edited(text: str, rate: float, chance: random.Random) -> str:
    """The text with a share of its words replaced."""
    pieces = re.split(r"(\s+)", text)
    return "".join("replaced" if piece.strip() and chance.random() < rate else piece for piece in pieces)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The inputs, and what was planted: {id of a row: (kind, original's text)}."""
    folder, chance = tmp_path_factory.mktemp("mixed"), random.Random(3)
    documents = [
        *((doc, f"{n}.py") for n, doc in enumerate(islice(installed.code_documents(seed=1), 250))),
        *((doc, "") for doc in islice(installed.english_documents(seed=1), 500)),
        *((doc, "") for doc in islice(installed.reference_documents(seed=1), 250)),
        *((doc, "") for doc in islice(installed.chinese_documents(seed=1), 60)),
    ]
    rows = [{"id": f"real-{n}", "text": doc.text, "path": path} for n, (doc, path) in enumerate(documents)]
    prose = [row for row in rows if not row["path"] and row["text"].isascii() and len(words(row["text"])) > 200]
    # Pages that will hold an item stand nowhere else, or they would be copies.
    holding = chance.sample(prose, 60)
    rows = [row for row in rows if row not in holding]
    long = [row for row in rows if len(words(row["text"])) > 120]
    plants = []
    for n, row in enumerate(chance.sample(long, 120)):
        plants.append({**row, "id": f"exact-{n}", "of": row["text"], "text": row["text"] + "  \n" * (n % 3)})
    for n, row in enumerate(chance.choices(long, k=500)):
        text = edited(row["text"], chance.uniform(0.001, 0.06), chance)
        plants.append({**row, "id": f"near-{n}", "of": row["text"], "text": text})
    items = []
    for n, row in enumerate(holding):
        template, rest = ITEMS[n % len(ITEMS)]
        question = f"{template.format(n + 3, n + 7)} {rest} does that make in the end, given number {n}?"
        items.append({"id": str(n), "question": question, "answer": str(n)})
        # As a page would have it: other case, and line breaks within.
        shown = question.upper() if n % 2 else question.replace(" ", "\n", 3)
        middle = row["text"].find("\n", len(row["text"]) // 2) + 1
        plants.append({**row, "id": f"item-{n}", "text": f"{row['text'][:middle]}\n{shown}\n{row['text'][middle:]}"})
    junk = {
        "lines": "Click here to subscribe\n" * 80,
        "symbols": "#### ... {}{}{} ### " * 60,
        "numbers": " ".join(str(n * 37) for n in range(900)),
        "menu": "\n".join(["Home", "About", "Contact", "Log in", "Cart", "Help"] * 30),
    }
    for name, text in junk.items():
        plants += [{"id": f"junk-{name}-{n}", "path": "", "text": f"{n}\n{text}"} for n in range(3)]
    minified = "var a=1;" * 900
    plants += [
        {"id": f"junk-minified-{n}", "path": f"lib{n}.min.js", "text": f"{minified}var b={n};"} for n in range(3)
    ]
    chance.shuffle(plants)
    for name, found in (("real", rows), ("planted", plants)):
        lines = (json.dumps({key: row[key] for key in ("id", "text", "path")}) for row in found)
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    settings = yaml.safe_load(CONFIG.read_text())
    settings["most_lost_of_a_source"] = 1.0
    settings["steps"].append({"step": "decontamination", "files": [str(folder / "items.jsonl")]})
    return folder, rows, plants, settings


def ids_of(out: Path, folder: Path) -> tuple[dict[str, dict], dict[str, dict]]:
    """Kept and dropped rows by the id of the row that they come from."""
    ids = {
        source: [json.loads(line)["id"] for line in (folder / f"{source}.jsonl").read_text().splitlines()]
        for source in ("real", "planted")
    }
    found: tuple[dict[str, dict], dict[str, dict]] = ({}, {})
    for place, name in enumerate(("kept", "dropped")):
        for path in sorted((out / name).glob("*.parquet")):
            for row in pq.read_table(path).to_pylist():
                found[place][ids[row["source"]][row["row"]]] = row
    return found


@pytest.fixture(scope="module")
def cleaned(planted):
    folder, *_, settings = planted
    out = folder / "out"
    clean(checked_config(settings), parse_inputs([str(folder / "real.jsonl"), str(folder / "planted.jsonl")]), out)
    return (out, *ids_of(out, folder))


def test_every_document_is_accounted_for(planted, cleaned):
    _, rows, plants, _ = planted
    out, kept, dropped = cleaned
    assert set(kept) | set(dropped) == {row["id"] for row in rows + plants}
    assert not set(kept) & set(dropped)
    summary = read_summary(out)
    assert summary["documents"] == len(rows) + len(plants)
    assert summary["kept_documents"] == len(kept)
    lost = sum(row["documents_dropped"] for row in summary["funnel"])
    assert lost == len(dropped)


def test_exact_copies_are_dropped_as_copies_of_the_first_source(planted, cleaned):
    _, kept, dropped = cleaned
    copies = [row for row in planted[2] if row["id"].startswith("exact")]
    assert not [row["id"] for row in copies if row["id"] in kept]
    for row in copies:
        assert dropped[row["id"]]["copy_of"]["source"] == "real"


def test_near_duplicates_are_found_by_their_true_similarity_and_nothing_else_is_taken_for_one(planted, cleaned):
    _, kept, dropped = cleaned
    texts = {row["id"]: row["text"] for row in [*planted[1], *planted[2]]}
    found: dict[bool, list[str]] = defaultdict(list)
    for row in planted[2]:
        if row["id"].startswith("near") and jaccard(row["text"], row["of"]) >= 0.9:
            found[row["id"] in dropped].append(row["id"])
    assert len(found[True]) + len(found[False]) > 100
    assert len(found[True]) / (len(found[True]) + len(found[False])) >= 0.98, found[False]
    by_origin = {(row["source"], row["row"]): name for name, row in {**kept, **dropped}.items()}
    judged = [(name, row) for name, row in dropped.items() if row["step"] == "near-duplicates"]
    wrong = []
    for name, row in judged:
        original = by_origin[row["copy_of"]["source"], row["copy_of"]["row"]]
        # Licence headers and spaces are gone from both before they are compared.
        if jaccard(texts[name], texts[original]) < SIMILARITY - 0.1:
            wrong.append((name, original))
    assert not wrong
    assert len(judged) > 200


def test_pages_that_hold_a_benchmark_item_are_dropped_for_it(planted, cleaned):
    _, kept, dropped = cleaned
    holding = [row["id"] for row in planted[2] if row["id"].startswith("item")]
    assert not [name for name in holding if name in kept]
    # Also where a rule before it has dropped the page, the step has found the item, whole and in its place.
    for name in holding:
        spans = [span for span in dropped[name]["contamination_spans"] if span["item"] == name.removeprefix("item-")]
        assert max(span["share"] for span in spans) == pytest.approx(1)
        shown = dropped[name]["text"][spans[0]["start"] : spans[0]["end"]]
        assert f"number {name.removeprefix('item-')}" in " ".join(shown.lower().split())
    assert any(dropped[name]["step"] == "decontamination" for name in holding)
    clean_pages = [name for name, row in dropped.items() if row["step"] == "decontamination" and name not in holding]
    assert not clean_pages


def test_junk_is_dropped_by_rules_and_most_real_prose_and_code_is_kept(planted, cleaned):
    _, kept, _ = cleaned
    assert not [row["id"] for row in planted[2] if row["id"].startswith("junk") and row["id"] in kept]
    code = [row["id"] for row in planted[1] if row["path"]]
    assert sum(name in kept for name in code) / len(code) > 0.6


def test_again_and_with_more_tasks_the_bytes_are_the_same(planted, cleaned):
    folder, *_, settings = planted
    inputs = parse_inputs([str(folder / "real.jsonl"), str(folder / "planted.jsonl")])
    clean(checked_config(settings), inputs, folder / "again", tasks=2)

    def given(out: Path) -> dict[str, bytes]:
        paths = [*out.glob("kept/*"), *out.glob("dropped/*"), out / "summary.json", out / "manifest.json"]
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}

    assert given(folder / "again") == given(cleaned[0])
