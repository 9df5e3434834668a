"""Of each kind seeds, and a good and a bad answer for them: what `test_every_kind.py` plays to a whole run.

`told` gives for a word of a question (which only one seed has) the answers to that seed's questions, in turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import test_code_kinds as code
import test_document_kinds as documents
import test_lean_kind as lean
import test_reflection as reflection
import test_science_qa as science
import test_worked_answers as worked


@dataclass(frozen=True)
class Play:
    """`becomes`: the verdict of each seed with its reason, `unchecked` for an accepted one that was not verified."""

    seeds: Sequence[Mapping[str, Any]]
    told: Mapping[str, Sequence[str]]
    becomes: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict)


SHIPS = {"text": "Two ships leave the harbour of a town at noon, one to the north and one to the east."}
BOAT = {"question": "A boat covers 90 km in 30 minutes. How fast is it, in km/h?", "answer": "180 km/h"}
STEPS_OF_BOAT = " ".join([worked.STEPS] * 6)


def worked_play(settings: Mapping[str, Any] | None = None) -> Play:
    """Of a question to be worked out: one answered rightly, one wrongly, one that is none."""
    right = f"{STEPS_OF_BOAT} {worked.RIGHT}"
    return Play(
        seeds=[worked.SEED, BOAT, {"question": ""}],
        told={"A train": [right] * 4, "A boat": [f"{STEPS_OF_BOAT} {worked.WRONG}"] * 4},
        becomes=["accepted", "rejected: wrong answer", "rejected: seed: no question"],
        settings=settings or {},
    )


PLAYS: dict[str, Play] = {
    "math-documents": Play(
        seeds=[documents.SEED, SHIPS, {"text": " "}],
        told={"A ladder leans": [documents.written()], "Two ships": [documents.written(solution="It is 4.")]},
        becomes=["accepted", "rejected: solution too short", "rejected: seed: no text"],
    ),
    "code-documents": Play(
        seeds=[code.TEXT, SHIPS],
        told={"Prices in a shop": [code.document()], "Two ships": [code.document(second="16")]},
        becomes=["accepted", "rejected: program contradicts the examples"],
    ),
    "oss-instruct": Play(
        seeds=[code.SEED, {"text": "def longest(words):\n    return max(words, key=len)\n"}],
        told={
            "def total": [code.written()],
            "def longest": [code.written(code.CODE.replace("[-2]", "[-1]"))],
        },
        becomes=["accepted", "rejected: solution fails its tests"],
    ),
    "math-cot": worked_play(),
    "long-cot": worked_play(),
    "science-cot": worked_play(),
    "matched-math": worked_play({"draws": 2}),
    "lean": Play(
        seeds=[lean.SEED, {**lean.SEED, "state_before": lean.BEFORE.replace("zero", "succ")}],
        told={"case zero": [lean.answer("State", lean.AFTER)], "case succ": [lean.answer("State", "⊢ (b = b")]},
        becomes=["accepted", "rejected: brackets of the state are not closed"],
        settings={"task": "next-state"},
    ),
    "science-qa": Play(
        seeds=[science.SEED, SHIPS],
        told={"pure water boils": [science.written(), "100 °C"], "Two ships": ["NONE"]},
        becomes=["accepted", "rejected: no question in the text"],
    ),
    "reflection": Play(
        seeds=[reflection.SEED, {**reflection.SEED, "question": "Of a dozen geese some fly. How many stay?"}],
        told={
            "three dozen eggs we use": [reflection.found(), reflection.ANALYSED, reflection.GOES_ON],
            "a dozen geese": [reflection.found(), reflection.ANALYSED, "So there are 31 eggs left now."],
        },
        becomes=["accepted", "rejected: no answer in \\boxed{}"],
    ),
}
