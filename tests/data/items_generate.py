"""Items of our own in the schemas of benchmarks whose answers are written. None is from the data sets themselves."""

from typing import Any

Rows = list[dict[str, Any]]

# Question, worked answer. One answer has thousands, one is negative.
GSM8K = [
    (
        "Mia has 3 boxes with 4 pens each. How many pens does she have?",
        "Each box has 4 pens, so 3 boxes have 3 * 4 = <<3*4=12>>12 pens.\n#### 12",
    ),
    (
        "A bus carries 20 people. 6 get off and 2 get on. How many are on the bus?",
        "20 - 6 = <<20-6=14>>14.\n14 + 2 = <<14+2=16>>16.\n#### 16",
    ),
    ("Tom reads 5 pages a day. How many pages does he read in a week?", "5 * 7 = <<5*7=35>>35 pages.\n#### 35"),
    (
        "A car costs $900 and its trailer $100 more than a tenth of that, plus $10. What do both cost?",
        "It costs 900 / 10 + 100 + 10 = <<900/10+100+10=200>>200.\n900 + 200 = <<900+200=1100>>1100.\n#### 1,100",
    ),
    (
        "It is 4 degrees. At night it gets 9 degrees colder. How many degrees is it then?",
        "4 - 9 = <<4-9=-5>>-5 degrees.\n#### -5",
    ),
    (
        "Four friends share 1000 dollars equally. How many dollars does each get?",
        "1000 / 4 = <<1000/4=250>>250.\n#### 250",
    ),
]

# Subject, problem, solution, answer.
MATH = [
    ("Algebra", "Solve $2x + 6 = 20$ for $x$.", "$2x = 14$, so $x = \\boxed{7}$.", "7"),
    (
        "Counting & Probability",
        "What is the chance of a six with a fair die?",
        "It is $\\boxed{\\frac{1}{6}}$.",
        "\\frac{1}{6}",
    ),
    ("Geometry", "A square has side $5$. What is its diagonal?", "It is $\\boxed{5\\sqrt{2}}$.", "5\\sqrt{2}"),
    ("Intermediate Algebra", "For which $x$ is $0 \\le x - 1 < 2$?", "So $x \\in \\boxed{[1,3)}$.", "[1,3)"),
    ("Number Theory", "What is $3^7 - 187$?", "$2187 - 187 = \\boxed{2000}$.", "2000"),
    ("Prealgebra", "What is $-3 - 4$?", "It is $\\boxed{-7}$.", "-7"),
    ("Precalculus", "What is the point with radius $2$ at angle $0$?", "It is $\\boxed{(2,0)}$.", "(2,0)"),
]

PLUS_TEST = """
import numpy as np


def same(found, expected):
    if isinstance(expected, float):
        assert np.allclose(found, expected, atol=1e-6)
    else:
        assert found == expected
"""

# Entry point, prompt, solution, (arguments, result) of the tests, further ones of the + tests.
HUMANEVAL = [
    (
        "running_totals",
        "from typing import List\n\n\ndef running_totals(numbers: List[int]) -> List[int]:\n"
        '    """ The sum of the numbers up to each place.\n    >>> running_totals([1, 2, 3])\n    [1, 3, 6]\n    """\n',
        "    totals = []\n    for number in numbers:\n        totals.append(number + (totals[-1] if totals else 0))\n"
        "    return totals\n",
        [(([1, 2, 3],), [1, 3, 6]), (([5],), [5])],
        [(([],), []), (([-1, 1],), [-1, 0])],
    ),
    (
        "count_vowels",
        'def is_vowel(letter: str) -> bool:\n    """ Whether a letter is a vowel. """\n'
        "    return letter.lower() in 'aeiou'\n\n\ndef count_vowels(text: str) -> int:\n"
        '    """ How many letters of the text are vowels.\n    >>> count_vowels("Oslo")\n    2\n    """\n',
        "    return sum(is_vowel(letter) for letter in text)\n",
        [(("Oslo",), 2), (("rhythm",), 0)],
        [(("",), 0), (("AEIOU",), 5)],
    ),
    (
        "mean",
        'def mean(values):\n    """ The mean of the values, 0.0 of none.\n    >>> mean([1, 2])\n    1.5\n    """\n',
        "    if not values:\n        return 0.0\n    return sum(values) / len(values)\n",
        [(([1, 2],), 1.5), (([4, 4, 4],), 4.0)],
        [(([],), 0.0)],
    ),
]

# Identifier, text, code, tests; identifiers 1 to 10 are MBPP's own split for prompts.
MBPP = [
    (1, "Write a function to add two numbers.", "def add(a, b):\n    return a + b", ["assert add(1, 2) == 3"]),
    (2, "Write a function to double a number.", "def double(a):\r\n\treturn 2 * a", ["assert double(4) == 8"]),
    (3, "Write a function to negate a number.", "def negate(a):\n    return -a", ["assert negate(4) == -4"]),
    (4, "Write a function to find the last item.", "def last(a):\n    return a[-1]", ["assert last([1, 2]) == 2"]),
    (
        11,
        "Write a function to reverse a string.",
        "def backwards(text):\n    return text[::-1]",
        ["assert backwards('abc') == 'cba'", "assert backwards('') == ''", "assert backwards('aa') == 'aa'"],
    ),
    (
        12,
        "Write a function to find the items that stand in both lists.",
        "def common_items(first, second):\n    return sorted(set(first) & set(second))",
        [
            "assert set(common_items([1, 2], [2, 3])) == {2}",
            "assert common_items([], [1]) == []",
            "assert common_items([3, 1], [1, 3]) == [1, 3]",
        ],
    ),
    (
        13,
        "Write a function to compute the area of a circle.",
        "import math\ndef circle_area(radius):\n    return math.pi * radius ** 2",
        [
            "assert math.isclose(circle_area(1), 3.14159, rel_tol=0.001)",
            "assert circle_area(0) == 0",
            "assert circle_area(2) > 12",
        ],
    ),
]
MBPP_PLUS = {
    11: [(("xy",), "yx"), (("a b",), "b a")],
    12: [(([1, 1], [1]), [1]), (([], []), [])],
    13: [((3,), 28.274333882308138)],
}

DIALOGUES = [
    (
        "The mill",
        "The old mill was built in 1820 by Jonas Brandt. It ground rye until a flood broke its wheel. CANNOTANSWER",
        [
            ("Who built the mill?", ["Jonas Brandt", "by Jonas Brandt"]),
            ("What did it grind?", ["rye"]),
            ("Who owns it today?", ["CANNOTANSWER"]),
        ],
    ),
    (
        "The ferry",
        "The ferry crosses the lake in twenty minutes and carries nine cars. CANNOTANSWER",
        [("How long does it take?", ["twenty minutes"]), ("How many cars fit?", ["nine cars", "nine"])],
    ),
]

# Question, accepted names, the value first.
TRIVIA = [
    ("Which metal is liquid in a warm room?", ["Mercury", "quicksilver"]),
    ("Which planet has the largest rings?", ["Saturn", "planet saturn"]),
    ("What do bees make?", ["Honey"]),
    ("How many legs has a spider?", ["Eight", "8"]),
    ("Which bird cannot fly and swims in icy water?", ["Penguin", "penguins"]),
    ("What falls from clouds when it is cold?", ["Snow"]),
]


def gsm8k() -> Rows:
    return [{"question": question, "answer": answer} for question, answer in GSM8K]


def math500() -> Rows:
    return [
        {
            "problem": problem,
            "solution": solution,
            "answer": answer,
            "subject": subject,
            "level": 1 + number % 5,
            "unique_id": f"ours/{number}.json",
        }
        for number, (subject, problem, solution, answer) in enumerate(MATH)
    ]


def math_subjects() -> dict[str, dict[str, Rows]]:
    configs = {}
    for subject, problem, solution, _ in MATH:
        row = {"problem": problem, "level": "Level 1", "type": subject, "solution": solution}
        configs[subject.lower().replace("& ", "and_").replace(" ", "_")] = {"train": [row], "test": [row]}
    return configs


def humaneval(*, plus: bool) -> Rows:
    rows = []
    for number, (name, prompt, solution, cases, further) in enumerate(HUMANEVAL):
        if plus:
            lines = [f"    same(candidate(*{args!r}), {result!r})" for args, result in cases + further]
            test = PLUS_TEST + "\n\ndef check(candidate):\n" + "\n".join(lines) + "\n"
        else:
            lines = [f"    assert candidate(*{args!r}) == {result!r}" for args, result in cases]
            test = "\n\nMETADATA = {'author': 'ours'}\n\n\ndef check(candidate):\n" + "\n".join(lines) + "\n"
        row = {"task_id": f"Ours/{number}", "prompt": prompt, "canonical_solution": solution}
        rows.append(row | {"test": test, "entry_point": name})
    return rows


def mbpp(low: int, high: int) -> Rows:
    return [
        {
            "task_id": number,
            "text": text,
            "code": code,
            "test_list": tests,
            "test_setup_code": "import math" if "math" in code else "",
            "challenge_test_list": [],
        }
        for number, text, code, tests in MBPP
        if low <= number <= high
    ]


def mbpp_plus() -> Rows:
    rows = []
    for number, text, code, tests in MBPP:
        if number in MBPP_PLUS:
            name = code.split("def ")[1].split("(")[0]
            lines = [f"same({name}(*{args!r}), {result!r})" for args, result in MBPP_PLUS[number]]
            row = {
                "task_id": number,
                "code": code,
                "prompt": text,
                "source_file": "ours.py",
                "test_imports": ["import math"],
            }
            rows.append(row | {"test_list": tests, "test": PLUS_TEST + "\n\n" + "\n".join([*tests, *lines]) + "\n"})
    return rows


def quac() -> Rows:
    rows = []
    for number, (title, paragraph, turns) in enumerate(DIALOGUES):
        texts = [answers for _, answers in turns]
        starts = [[max(0, paragraph.find(text)) for text in answers] for answers in texts]
        row = {
            "dialogue_id": f"ours_{number}",
            "wikipedia_page_title": "Ours",
            "background": "A page of our own.",
            "section_title": title,
            "context": paragraph,
            "turn_ids": [f"ours_{number}_q#{turn}" for turn in range(len(turns))],
            "questions": [question for question, _ in turns],
            "followups": [2] * len(turns),
            "yesnos": [2] * len(turns),
            "answers": {"texts": texts, "answer_starts": starts},
            "orig_answers": {"texts": [text[0] for text in texts], "answer_starts": [start[0] for start in starts]},
        }
        rows.append(row)
    return rows


def trivia(items: list[tuple[str, list[str]]]) -> Rows:
    return [
        {
            "question": question,
            "question_id": f"ours_{number}",
            "question_source": "ours",
            "answer": {
                "aliases": names,
                "normalized_aliases": [name.lower() for name in names],
                "normalized_value": names[0].lower(),
                "type": "WikipediaEntity",
                "value": names[0],
            },
        }
        for number, (question, names) in enumerate(items)
    ]


DATASETS: dict[str, dict[str, dict[str, Rows]]] = {
    "openai/gsm8k": {"main": {"train": gsm8k()[:2], "test": gsm8k()}},
    "HuggingFaceH4/MATH-500": {"default": {"test": math500()}},
    "EleutherAI/hendrycks_math": math_subjects(),
    "openai/openai_humaneval": {"openai_humaneval": {"test": humaneval(plus=False)}},
    "evalplus/humanevalplus": {"default": {"test": humaneval(plus=True)}},
    "google-research-datasets/mbpp": {
        "full": {"train": mbpp(11, 11), "test": mbpp(11, 510), "validation": mbpp(12, 12), "prompt": mbpp(1, 10)}
    },
    "evalplus/mbppplus": {"default": {"test": mbpp_plus()}},
    "allenai/quac": {"plain_text": {"train": quac()[:1], "validation": quac()}},
    "mandarjoshi/trivia_qa": {"rc.wikipedia.nocontext": {"train": trivia(TRIVIA), "validation": trivia(TRIVIA[5:])}},
}
