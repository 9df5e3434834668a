"""Every kind in a whole run: against a server that gives good and bad answers, and against the real one."""

from collections import Counter
from typing import Any

import orjson
import pytest
from endpoint_server import Reply, last, serve_answers
from synthesis_runs import made, rows, verdicts
from test_kind_examples import EXAMPLES, KINDS, Case, cases
from told_answers import CHECKS

EMPTY = dict.fromkeys(("math-cot", "long-cot", "science-cot", "matched-math", "reflection"), "no question")
EMPTY |= {"lean": "no state_before"}


def settings_of(name: str) -> dict[str, Any]:
    return EXAMPLES[name].get("settings", {}) | ({"draws": 2} if name == "matched-math" else {})


def server_of(found: list[Case]) -> Any:
    """Answers each question of a case in turn. A case is known by the remark in its seed, or by what only its own first
    answer says and a later question repeats."""
    good = set(found[0].answers[0].text.splitlines())
    own = [set(case.answers[0].text.splitlines()) - good for case in found]
    counts: Counter[int] = Counter()

    def answer(body: dict[str, Any]) -> Reply:
        asked = last(body)
        number = next(
            (
                n
                for n in range(1, len(found))
                if f"case {n}" in asked or any(line in asked for line in own[n] if len(line) > 20)
            ),
            0,
        )
        answers = found[number].answers
        said = answers[min(counts[number], len(answers) - 1)]
        counts[number] += 1
        return Reply(said.text, said.finish_reason)

    return answer


@pytest.mark.parametrize("name", KINDS)
def test_good_answers_are_accepted_and_bad_ones_are_not(tmp_path, name):
    found = cases(name)
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_bytes(b"\n".join(orjson.dumps(row) for row in [*(case.seed for case in found), {"other": "x"}]))
    with serve_answers(server_of(found)) as server:
        made(seeds, tmp_path / "out", server.url, kind=name, checks=CHECKS, settings=settings_of(name), concurrency=1)
    missing = f"rejected: seed: {EMPTY.get(name, 'no text')}"
    assert verdicts(tmp_path / "out") == [*(case.verdict for case in found), missing]
    first = rows(tmp_path / "out")[0]
    assert first["checked"]
    assert first["response"] == found[0].answers[-1].text
    for field in KINDS[name].text_fields:
        assert first[field] in first["text"]


@pytest.mark.slow
def test_the_real_server_is_asked_and_what_it_says_is_accepted_by_no_kind(tmp_path, served_miniature):
    found = {}
    for name in KINDS:
        seeds, out = tmp_path / f"{name}.jsonl", tmp_path / name
        seeds.write_bytes(orjson.dumps(EXAMPLES[name]["seed"]))
        settings = settings_of(name) | {"max_tokens": 48}
        made(seeds, out, served_miniature.url, model=served_miniature.model, kind=name, checks=CHECKS,
             settings=settings, concurrency=1, timeout=120.0)  # fmt: skip
        (found[name],) = rows(out)
    for name, row in found.items():
        assert row["prompt"], name
        assert row["response"], name
        assert row["finish_reason"] in ("stop", "length"), name
        assert (row["verdict"], row["reason"]) != ("failed", "no answer"), name
        assert row["verdict"] == ("failed" if row["finish_reason"] == "length" else "rejected"), row
