"""Our measures as modules of `evaluate`: right by hand and by enumeration, and loaded as anybody loads them."""

import itertools
import math
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy
import pytest

from eval.code_runner.runner import usable
from eval.errors import EvalError
from eval.metrics import METRICS, compute, metric_folder
from eval.metrics.pass_at_k.estimator import pass_at_k

REPOSITORY = Path(__file__).resolve().parents[3]
needs_isolation = pytest.mark.skipif(not usable()[0], reason=f"nothing isolates here: {usable()[1]}")


@pytest.mark.parametrize("samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_mean_over_all_choices(samples):
    for correct, k in itertools.product(range(samples + 1), range(1, samples + 1)):
        passed = [index < correct for index in range(samples)]
        choices = list(itertools.combinations(passed, k))
        assert pass_at_k(samples, correct, k) == float(Fraction(sum(map(any, choices)), len(choices)))


@pytest.mark.parametrize(
    ("samples", "correct", "k"), [(200, 17, 10), (200, 0, 100), (200, 200, 1), (2000, 3, 500), (20, 1, 10)]
)
def test_pass_at_k_is_the_published_product(samples, correct, k):
    """The form of Chen et al., figure 3."""
    if samples - correct < k:
        published = 1.0
    else:
        published = 1.0 - numpy.prod(1.0 - k / numpy.arange(samples - correct + 1, samples + 1))
    assert pass_at_k(samples, correct, k) == pytest.approx(published, abs=1e-12)


def test_pass_at_k_is_exact_where_products_of_floats_are_not():
    # One of ten million samples: the chance is k / n, which a product of factors near one loses digits of.
    assert pass_at_k(10_000_000, 1, 3) == 3e-7
    assert pass_at_k(100_000, 1, 50_000) == 0.5


@pytest.mark.parametrize(("samples", "correct", "k"), [(5, 1, 6), (5, 6, 1), (5, -1, 1), (5, 1, 0), (0, 0, 1)])
def test_pass_at_k_refuses_what_has_no_estimate(samples, correct, k):
    with pytest.raises(ValueError, match=r"expected|needs"):
        pass_at_k(samples, correct, k)


@needs_isolation
def test_programs_are_scored_by_their_tests():
    right, wrong = "def add(a, b): return a + b", "def add(a, b): return a - b"
    leaves, loops = "import os; os._exit(0)", "while True: pass"
    found = compute(
        "pass_at_k",
        predictions=[[right, wrong, leaves, right], [wrong, wrong, loops, wrong]],
        references=["assert add(2, 3) == 5"] * 2,
        k=[1, 2],
        seconds=1.0,
    )
    assert found["statuses"] == [["passed", "failed", "failed", "passed"], ["failed", "failed", "timeout", "failed"]]
    assert found["pass@1"] == 0.25
    assert found["pass@2"] == pytest.approx((1 - 1 / 6) / 2)
    assert found["isolation"] == usable()[0][0].name


def test_no_isolation_gives_no_score(monkeypatch):
    from eval.code_runner import runner

    monkeypatch.setattr(runner, "usable", lambda: ([], {"bubblewrap": "not here"}))
    with pytest.raises(EvalError, match=r"was not run, so there is no score.*not here"):
        compute("pass_at_k", predictions=[["x = 1"]], references=["x"], k=[1])


def test_more_attempts_than_programs_are_refused_before_anything_runs(monkeypatch):
    from eval import code_runner

    monkeypatch.setattr(code_runner, "run_programs", lambda *args, **kwargs: pytest.fail("it ran"))
    with pytest.raises(EvalError, match=r"pass@10 needs at least 10 samples of each problem.*found 1"):
        compute("pass_at_k", predictions=[["x = 1"]], references=["x"], k=[1, 10])


def test_bits_per_byte_weigh_documents_by_their_bytes():
    texts = ["aaaa", "水", "12345"]
    sizes = [len(text.encode()) for text in texts]
    nats = [size * math.log(2) * bits for size, bits in zip(sizes, (1.0, 2.0, 3.0), strict=True)]
    by_hand = (4 * 1.0 + 3 * 2.0 + 5 * 3.0) / 12
    for references in (texts, sizes):
        found = compute("bits_per_byte", predictions=nats, references=references)
        assert found["bits_per_byte"] == pytest.approx(by_hand, rel=1e-15)
        assert found["bytes"] == 12
    # A document of digits is a text, not the number of its bytes.
    assert compute("bits_per_byte", predictions=[math.log(2)], references=["123"])["bytes"] == 3
    uniform = compute("bits_per_byte", predictions=[7 * math.log(256)], references=[7])
    assert uniform["bits_per_byte"] == pytest.approx(8.0, rel=1e-15)


@pytest.mark.parametrize(
    ("nats", "references"), [([math.nan], ["a"]), ([math.inf], ["a"]), ([1.0], [""]), ([1.0], [-1])]
)
def test_bits_per_byte_refuse_what_is_no_likelihood_of_a_text(nats, references):
    with pytest.raises(EvalError, match=r"bits_per_byte: .*(not finite|more than 0 bytes)"):
        compute("bits_per_byte", predictions=nats, references=references)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("83", "83"),
        (" 83.\n", "83"),
        ("7 + 8 = 15, write 5.\nAnswer: 85", "85"),
        ("Answer: 12\nAnswer: 15\n\nQuestion: what", "15"),
        ("50 - 40 = 10\n答案：３", "3"),
        ("答案：3\nAnswer: 4", "4"),
        ("Answer: 4\n答案：3", "3"),
        ("偶数。", "偶数"),
        ("lamp,  tea", "lamp, tea"),
        ("83 and 84", "83 and 84"),
        ("", ""),
    ],
)
def test_answers_are_read_from_responses(response, answer):
    found = compute("answer_match", predictions=[response], references=[answer])
    assert (found["answers"], found["matches"], found["answer_match"]) == ([answer], [True], 1.0)
    assert compute("answer_match", predictions=[response], references=["another"])["answer_match"] == 0.0


def test_several_answers_may_be_right_and_marks_may_be_others():
    found = compute("answer_match", predictions=["a", "c"], references=[["a", "b"], ["a", "b"]])
    assert found["matches"] == [True, False]
    found = compute("answer_match", predictions=["so #### 5", "Answer: 5"], references=["5", "5"], marks=["####"])
    assert found["matches"] == [True, False]
    with pytest.raises(EvalError, match="expected at least one"):
        compute("answer_match", predictions=["a"], references=["a"], marks=[])


def test_an_unknown_metric_is_named_with_the_nearest():
    with pytest.raises(EvalError, match="bits_per_byte"):
        metric_folder("bits_per_bite")


LOAD = """
import sys, evaluate
assert "eval.metrics" not in sys.modules
for name, inputs in {
    "bits_per_byte": {"predictions": [5.545177444479562], "references": ["abcd"]},
    "answer_match": {"predictions": ["Answer: 4."], "references": ["4"]},
    "pass_at_k": {"predictions": [["x = 1", "x = 2"]], "references": ["assert x == 1"], "k": [1, 2]},
}.items():
    print(evaluate.load(sys.argv[1] + "/" + name).compute(**inputs))
"""


def _read_only_copy(folder: Path) -> Path:
    """The packages that the metrics need, as in an installation that the user may not write to."""
    for package in ("eval", "data_recipes", "train", "modeling_yulanmini"):
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def test_a_folder_is_all_that_evaluate_needs():
    import evaluate

    found = evaluate.load(str(metric_folder("bits_per_byte"))).compute(predictions=[math.log(2)], references=["a"])
    assert found == compute("bits_per_byte", predictions=[math.log(2)], references=["a"])
    found = evaluate.load(str(metric_folder("answer_match"))).compute(predictions=["Answer: 1"], references=["1"])
    assert found["answer_match"] == 1.0
    if usable()[0]:
        metric = evaluate.load(str(metric_folder("pass_at_k")))
        assert metric.compute(predictions=[["x = 1"]], references=["assert x == 1"])["pass@1"] == 1.0


@pytest.mark.slow
@needs_isolation
def test_anybody_loads_them_from_their_folders_offline_two_at_once(tmp_path):
    """`evaluate.load(folder)` in fresh processes that share an empty cache, from a folder that cannot be written to."""
    installed = _read_only_copy(tmp_path / "site")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_HOME")}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    environment |= {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", LOAD, str(installed / "eval" / "metrics")]
    started = [
        subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in started:
        stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
        bits, answer, passed = stdout.splitlines()
        assert bits == "{'bits_per_byte': 2.0, 'nats': 5.545177444479562, 'bytes': 4}"
        assert answer == "{'answer_match': 1.0, 'matches': [True], 'answers': ['4']}"
        assert passed.startswith("{'pass@1': 0.5, 'pass@2': 1.0, 'statuses': [['passed', 'failed']]")


def test_scoring_writes_nothing_to_the_user_s_cache(tmp_path, monkeypatch):
    before = sorted(Path(os.environ["HF_HOME"]).rglob("*"))
    compute("bits_per_byte", predictions=[1.0], references=[1])
    assert sorted(Path(os.environ["HF_HOME"]).rglob("*")) == before


def test_tasks_do_not_import_evaluate_before_they_score():
    code = "import sys, eval.suites, eval.tasks.problems, eval.tasks.heldout, eval.code_runner, eval.metrics\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print([name for name in ('evaluate', 'sandlock') if name in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", METRICS)
def test_the_example_of_a_metric_s_description_is_true(name):
    """The lines after >>> in what `metric.inputs_description` shows."""
    import importlib
    import re

    if name == "pass_at_k" and not usable()[0]:
        pytest.skip("nothing isolates here")
    text = importlib.import_module(f"eval.metrics.{name}.{name}")._KWARGS_DESCRIPTION
    lines = re.findall(r">>> (.*)", text)
    scope = {"evaluate": type("Offline", (), {"load": staticmethod(lambda folder: _Computing(Path(folder).name))})}
    for line in lines[:-1]:
        exec(line.replace("\\\\n", "\\n"), scope)
    assert str(eval(lines[-1].replace("\\\\n", "\\n"), scope)) == text.split(lines[-1])[1].split()[0]


class _Computing:
    def __init__(self, name):
        self.name = name

    def compute(self, **inputs):
        return compute(self.name, **inputs)
