"""Final answers: read from any text, and found equal or not whatever an answer holds."""

import multiprocessing
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.answers.final import final_answer
from data_recipes.answers.judge import JUDGE, Judge, same_answer
from data_recipes.answers.plain import equal_where_plain

NUMBERS = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.decimals(-1000, 1000, places=2, allow_nan=False).map(str),
    st.tuples(st.integers(-99, 99), st.integers(1, 99)).map(lambda parts: f"\\frac{{{parts[0]}}}{{{parts[1]}}}"),
)
ANSWERS = st.one_of(st.text(), st.text("0123456789.,/*eE^-+ kmgs°$%²\\{}()每米", max_size=12))
UNITS = st.sampled_from(["", " cm", " kg", "\\text{ m/s}", " J", " 元", "^\\circ"])


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("\\frac{1}{2}", "0.5", True),
        ("1000", "1{,}000", True),
        ("1000", "\\$1,000.00", True),
        ("x + 1", "1 + x", True),
        ("5\\sqrt{2}", "\\sqrt{50}", True),
        ("12\\text{ cm}", "12", True),
        ("\\text{Tuesday}", "Tuesday", True),
        ("5", "x = 5", True),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", True),
        ("[2,5)", "[2,5]", False),
        ("(0,1)", "(1,0)", False),
        ("5", "5,6", False),
        ("5", "5 \\text{ or } 6", False),
        ("2", "-2", False),
        ("5", "", False),
    ],
)
def test_equal_answers_are_found_equal(gold, answer, equal):
    assert JUDGE.equal(gold, answer) is equal


@pytest.fixture(scope="module")
def hasty_judge():
    judge = Judge(seconds=2)
    yield judge
    judge.stop()


@pytest.mark.parametrize("hostile", ["9^{9^{9^{9}}}", "\\frac{" * 2000, "\0\n"])
def test_an_answer_that_hangs_the_parsers_is_wrong_in_time_and_the_next_is_judged(hasty_judge, hostile):
    assert hasty_judge.equal("5", "5") is True
    begun = time.monotonic()
    assert hasty_judge.equal("5", hostile) is False
    assert time.monotonic() - begun < 6
    assert hasty_judge.equal("5", "5") is True


def test_a_judge_that_was_killed_is_started_again(hasty_judge):
    assert hasty_judge.equal("1", "1")
    hasty_judge.child.kill()
    hasty_judge.child.wait()
    assert hasty_judge.equal("1", "1")
    assert not hasty_judge.equal("1", "2")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("the cost is \\$5", "the cost is \\$5"),
        ("The final answer is \\$5.", "\\$5"),
        ("$a$ and \\boxed{b} but The final answer is $c$.", "c"),
        ("The final answer is $c$. So \\boxed{b}.", "b"),
        ("So it is $3$.\nAnswer: 42.", "42"),
        ("$x$ 米。\n所以答案是 42。", "42"),
        ("3 + 4\n#### 7", "7"),
        ("42", "42"),
        ("", ""),
    ],
)
def test_the_last_answer_is_taken(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("1.5 km", "1500 m", True),
        ("1.5 km", "1.5 m", False),
        ("9.8 m/s^2", "$9.8 \\text{ m/s}^2$", True),
        ("1.5 \\times 10^{3} J", "1.5 kJ", True),
        ("72 千米/小时", "20 m/s", True),
        ("30^\\circ", "30 degrees", True),
        ("25℃", "25 °C", True),
        ("25℃", "25°", False),
        ("2 m", "2", True),
        ("$5", "5 dollars", True),
        ("5 percent", "5 cents", False),
        ("(B)", "B) 42", True),
        ("B", "C", False),
        ("Tuesday", "tuesday.", True),
        ("listen", "silent", False),
        ("yes", "Yes.", True),
        ("yes", "No", False),
        ("\u22125", "-5", True),
        ("北京", "北京。", True),
        ("5", "/5", False),
        ("5", "e5", False),
        ("-2", "-/2", False),
        ("x²", "x^2", True),
        ("x²", "x2", False),
        ("½", "0.5", True),
        ("50%", "0.5", True),
        ("(a+b)^2", "a^2+2ab+b^2", True),
        ("", "", False),
    ],
)
def test_answers_are_the_same_in_any_unit_or_form(gold, answer, equal):
    assert same_answer(gold, answer) is equal


@settings(max_examples=60)
@given(number=NUMBERS, unit=UNITS, data=st.data())
def test_an_answer_is_itself_and_not_what_a_changed_digit_makes_of_it(number, unit, data):
    assert same_answer(number + unit, f" ${number}{unit}$ ")
    place = data.draw(st.sampled_from([place for place, sign in enumerate(number) if sign.isdigit()]))
    digit = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != number[place]]))
    changed = number[:place] + digit + number[place + 1 :]
    if value(changed) is not None and value(changed) != value(number):
        assert not same_answer(number + unit, changed + unit)


def value(number: str) -> Fraction | None:
    top, _, bottom = number.removeprefix("\\frac{").removesuffix("}").partition("}{")
    return None if bottom and not int(bottom) else Fraction(top) / int(bottom or 1)


@given(ANSWERS, ANSWERS)
def test_any_two_texts_are_compared_without_an_error(first, second):
    assert equal_where_plain(first, second) in (True, False, None)
    assert equal_where_plain(first, first) in (True, None)
    assert (
        equal_where_plain(first, second) == equal_where_plain(second, first)
        or "A" <= first.strip("( ")[:1] <= "J"
        or ("A" <= second.strip("( ")[:1] <= "J")
    )
    final_answer(first)


def test_a_forked_process_has_a_judge_of_its_own():
    """A child that wrote into its parent's pipe would take its verdicts."""
    assert JUDGE.equal("x + 1", "1 + x")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pairs = [("x + 1", "1 + x"), ("x + 1", "x + 2")] * 10
        verdicts = pool.starmap_async(same_answer, pairs)
        here = [same_answer(*pair) for pair in pairs]
        assert verdicts.get(timeout=120) == here == [True, False] * 10


def test_a_verdict_is_of_the_pair_that_was_asked_for(hasty_judge):
    """Whatever else the child has been sent: by a fork that copied half a buffer, or before an interruption."""
    assert hasty_judge.equal("x + 1", "1 + x")
    child = hasty_judge.child
    child.stdin.write('[-1, "x", "x"]\n[-2, "x", "x\n[-3, "x", "x"]\n')
    child.stdin.flush()
    assert not hasty_judge.equal("x + 1", "x + 2")
    assert hasty_judge.equal("x + 1", "1 + x")
    assert hasty_judge.child is child
