"""Steps of Lean proofs: their form by rule, and what a binary `lean` says where there is one."""

import asyncio
import json
import os
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_answers import CHECKS, ToldModel, verdict

from data_recipes.errors import DataError
from data_recipes.synthesis.kinds.base import Rejected
from data_recipes.synthesis.kinds.lean import TASKS, Lean
from data_recipes.synthesis.kinds.lean_binary import effect_of, written
from data_recipes.synthesis.kinds.lean_states import check_tactic, same_state, shown_state, state_goals

BEFORE = "case zero\nα : Type u_1\ninst✝ : Group α\na b : α\nh : a =\n  b\n⊢ b = a"
TACTIC = "rw [h]"
AFTER = "α : Type u_1\ninst✝ : Group α\na b : α\nh : a = b\n⊢ b = b"
SEED = {
    "statement": "theorem symm (a b : α) (h : a = b) : b = a := by",
    "state_before": BEFORE,
    "tactic": TACTIC,
    "state_after": AFTER,
}
WHY = "The hypothesis h says that a equals b, so rewriting with it puts b where a stood in the goal."


def answer(part: str = "", text: str = "", why: str = WHY) -> str:
    return f"[Explanation]\n{why}\n" + (f"\n[{part}]\n{text}\n" if part else "") + "<END>"


@pytest.mark.parametrize(
    ("task", "said", "expected"),
    [
        ("explain", answer(), "unchecked"),
        ("explain-from-statement", answer(), "unchecked"),
        ("explain", answer(why="It rewrites."), "rejected: explanation too short"),
        ("explain", answer(why="由假设可知两边相等，因此用它改写目标的左边。" * 2), "rejected: wrong language"),
        ("next-state", answer("State", AFTER), "accepted"),
        ("next-state", answer("State", f"```lean\n{AFTER}\n```"), "accepted"),
        ("next-state", answer("State", AFTER.replace("a b : α", "a : α\nb : α")), "accepted"),
        ("next-state", answer("State", AFTER.replace("b = b", "a = a")), "rejected: not the state after the tactic"),
        ("next-state", answer("State", "no goals"), "rejected: not the state after the tactic"),
        ("next-state", answer("State", BEFORE), "rejected: state repeated"),
        ("next-state", answer("State", "b = b"), "rejected: no goal in the state"),
        ("next-state", answer("State", "⊢ (b = b"), "rejected: brackets of the state are not closed"),
        ("next-state", answer("State", "so a = b\n⊢ b = b"), "rejected: a line of the state is no hypothesis"),
        ("earlier-state", answer("State", BEFORE), "unchecked"),
        ("earlier-state", answer("State", "no goals"), "rejected: no goals before the tactic"),
        ("next-tactic", answer("Tactic", "exact h.symm"), "unchecked"),
        ("next-tactic", answer("Tactic", "```lean\nexact h.symm\n```"), "unchecked"),
        ("next-tactic", answer("Tactic", "sorry"), "rejected: sorry in the tactic"),
        ("next-tactic", answer("Tactic", "· simp\n  admit"), "rejected: sorry in the tactic"),
        ("next-tactic", answer("Tactic", "-- exact h"), "rejected: no tactic"),
        ("next-tactic", answer("Tactic", "exact (h.symm"), "rejected: brackets of the tactic are not closed"),
        ("next-tactic", answer("Tactic", "theorem x : True := trivial"), "rejected: a command in place of a tactic"),
        ("next-tactic", answer("Tactic", "We should rewrite with the hypothesis"), "rejected: not a tactic in form"),
        ("next-tactic", answer("Tactic", "the tactic"), "rejected: not a tactic in form"),
        ("next-tactic", answer("Tactic", "⊢ b = a"), "rejected: a state in place of a tactic"),
        ("next-tactic", answer(), "rejected: no [Tactic] part"),
    ],
)  # fmt: skip
def test_what_is_written_must_have_leans_form(task, said, expected):
    assert verdict(Lean(task=task), SEED, said, checks=CHECKS) == expected


def test_a_task_names_the_columns_that_it_needs_and_all_come_up_in_rotation():
    assert Lean(task="next-tactic").columns == ("state_before",)
    assert verdict(Lean(task="next-state"), SEED | {"tactic": ""}) == "unusable: no tactic"
    assert verdict(Lean(task="explain"), SEED | {"state_before": "x"}) == "unusable: state_before is no state of Lean 4"
    assert verdict(Lean(), {"tactic": "simp"}) == "unusable: no state or tactic"
    with pytest.raises(DataError, match="Did you mean 'next-state'"):
        Lean(task="nextstate")
    seeds = [SEED | {"tactic": f"rw [h{number}]"} for number in range(60)]
    assert {Lean().task_of(seed) for seed in seeds} == set(TASKS)
    assert {Lean().task_of({"state_before": f"⊢ {number} = 1"}) for number in range(20)} == {"next-tactic"}


def test_a_tactic_is_text_with_its_explanation_as_a_comment():
    sample = asyncio.run(Lean(task="next-tactic").make(SEED, ToldModel(answer("Tactic", "exact h.symm"))))
    assert sample.fields["answer"] == f"Tactic:\n-- {WHY}\nexact h.symm"
    assert sample.fields["question"] == f"State before:\n{BEFORE}"


STAND_IN = """#!{python}
# Speaks as `lean --json` does. Knows two tactics, and that a type Unknown is none.
import json, sys
text = open(sys.argv[-1]).read()
lines = text.split("\\n")
def say(severity, line, data):
    print(json.dumps(dict(severity=severity, pos=dict(line=line, column=2), data=data)))
begins = [number for number, line in enumerate(lines, 1) if line.startswith("example")]
trace = next(number for number, line in enumerate(lines, 1) if line == "  trace_state")
say("warning", begins[0], "declaration uses 'sorry'")
if "Unknown" in text:
    say("error", begins[0], "unknown identifier 'Unknown'")
tactic = "\\n".join(lines[begins[1]:trace - 1])
if "rw [h]" in tactic:
    say("information", trace, {after!r})
elif "exact h.symm" in tactic:
    say("information", trace, "")
else:
    say("error", trace - 1, "unsolved\\nby this stand-in")
sys.exit(1 if "Unknown" in text else 0)
"""


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    path = tmp_path_factory.mktemp("lean") / "lean"
    after = AFTER.replace("✝", "_inaccessible")
    path.write_text(STAND_IN.format(python=sys.executable, after=after), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("task", "said", "expected"),
    [
        ("next-tactic", answer("Tactic", "exact h.symm"), "accepted"),
        ("next-tactic", answer("Tactic", "exact h"), "rejected: the tactic fails in Lean"),
        ("next-tactic", answer("Tactic", "run_tac do IO.FS.removeFile h"), "unchecked"),
        ("earlier-state", answer("State", BEFORE), "accepted"),
        ("earlier-state", answer("State", BEFORE.replace("Group", "Unknown")), "unchecked"),
        ("explain", answer(), "unchecked"),
    ],
)
def test_a_binary_judges_tactics_and_states(lean, task, said, expected):
    assert verdict(Lean(task=task), SEED, said, checks=replace(CHECKS, lean=lean)) == expected


def test_a_predicted_state_is_compared_with_the_one_that_lean_shows(lean):
    seed = SEED | {"state_after": ""}
    checks = replace(CHECKS, lean=lean)
    assert verdict(Lean(task="next-state"), seed, answer("State", AFTER), checks=checks) == "accepted"
    wrong = answer("State", AFTER.replace("b = b", "a = a"))
    assert verdict(Lean(task="next-state"), seed, wrong, checks=checks) == "rejected: not the state after the tactic"


@pytest.mark.parametrize("script", ["sys.exit(3)", "print('no JSON')", "print('[1]')", "print('{}')", "pass"])
def test_a_binary_that_says_nothing_of_use_leaves_samples_unchecked(tmp_path, script):
    path = tmp_path / "lean"
    path.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    path.chmod(0o755)
    assert effect_of(str(path), BEFORE, TACTIC) is None
    assert effect_of(str(tmp_path / "absent"), BEFORE, TACTIC) is None


def test_lean_is_given_no_key_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    path = tmp_path / "lean"
    path.write_text(
        f"#!{sys.executable}\nimport os, json\njson.dump(dict(os.environ), open({str(tmp_path / 'seen')!r}, 'w'))\n"
    )
    path.chmod(0o755)
    effect_of(str(path), BEFORE, TACTIC)
    seen = json.loads((tmp_path / "seen").read_text())
    assert "secret" not in seen.values()
    assert seen["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("state", "tactic", "header"),
    [
        ("⊢ True", "run_tac IO.println 1", ""),
        ("⊢ True", "trivial\n#eval 1", ""),
        ("⊢ True", "trivial\n# eval 1", ""),
        ("⊢ True := by trivial\n  #eval 1", "trivial", ""),
        ("h : (True)\n  #eval (1)\n⊢ True", "trivial", ""),
        ("h : ℕ := 5\n⊢ True", "trivial", ""),
        ("⊢ True", "trivial\naxiom x : False", ""),
        ("⊢ True", "native_decide", ""),
        ("⊢ True", "trivial", "#eval 1"),
        ("⊢ True", "trivial", "import Mathlib\ninitialize x"),
        ("⊢ True", "open Lean Elab in trivial", ""),
    ],
)
def test_text_that_could_run_programs_is_not_given_to_lean(state, tactic, header):
    (goal,) = state_goals(state)
    assert written(goal, tactic, header) is None


def test_an_example_is_written_in_lines_that_begin_no_command():
    (goal,) = state_goals(BEFORE)
    text, second = written(goal, "constructor\n· simp\n· rw [h]", "import Mathlib\n-- ours\nopen Nat")
    claim = "example (α : Type u_1) [Group α] (a b : α) (h : a =\n      b) :\n    b = a := by\n"
    assert text == (
        f"import Mathlib\nopen Nat\nuniverse u_1\n\n{claim}  sorry\n\n{claim}"
        "  constructor\n  · simp\n  · rw [h]\n  trace_state\n  all_goals sorry\n"
    )
    assert text.split("\n")[second - 1].startswith("example")


NAMES = st.text("abxyhαβ'₁", min_size=1, max_size=4).filter(lambda name: name[0] not in "'₁")
TYPES = st.sampled_from(["ℕ", "a = b", "∀ x, x ∈ s →\n    x ≤ 1", "Fin (n + 1)", "⟨1, 2⟩ = p", "f '' s ⊆ t"])
GOALS = st.tuples(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), TYPES), max_size=4), TYPES)


@given(st.lists(GOALS, min_size=1, max_size=3), st.sampled_from(["\n", "\r\n"]))
def test_a_state_that_is_written_is_read_back(goals, newline):
    paragraphs = [
        "\n".join([*(f"{' '.join(names)} : {kind}" for names, kind in hypotheses), f"⊢ {target}"])
        for hypotheses, target in goals
    ]
    text = "\n\n".join(paragraphs)
    read = state_goals(text.replace("\n", newline).replace("\r\n", "\n"))
    assert [([(list(names), kind) for names, kind in goal.hypotheses], goal.target) for goal in read] == goals
    assert same_state(text, shown_state(read))
    assert not same_state(text, text + "\n\n⊢ False")


@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(["⊢ ", "case a\n", "h : a\n", "\n", "  b", "(", "⟩", "no goals", "/-", "--", '"'])
        ).map("".join),
    )
)
def test_any_text_is_a_state_or_a_tactic_or_rejected(text):
    for read in (state_goals, check_tactic):
        try:
            read(text)
        except Rejected as error:
            assert str(error)  # noqa: PT017
    assert same_state(text, text) in (True, False)
    assert verdict(Lean(task="next-tactic"), SEED, text).startswith(("rejected", "unchecked"))
