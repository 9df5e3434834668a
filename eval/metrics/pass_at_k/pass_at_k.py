"""pass@k: the share of programming problems solved by at least one of k generated programs, run isolated."""

import datasets
import evaluate

from .estimator import pass_at_k

_DESCRIPTION = """
pass@k: the chance that at least one of k generated programs passes a problem's tests, estimated without bias from
n >= k programs (Chen et al. 2021) and averaged over the problems. Programs run in yulanmini's fail-closed runner: no
network, no files but their own, limits on time, memory, processes, disk and output. Where this machine cannot isolate
them, nothing is run and there is no score.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of lists of str): the programs that were generated for each problem, as Python source.
    references (list of str): the tests of each problem, as Python source that runs after a program, in its module.
    k (list of int): the numbers of attempts; each at most the number of programs of every problem. By default 1.
    seconds (float), memory_bytes (int): limits of one program and its tests.
    workers (int): programs that run at once; by default one a core.
Returns:
    pass@1, pass@10, ...: a share for each k.
    statuses: for each problem, how each program ended: passed, failed, timeout or killed.
    isolation: what the programs were isolated by.
Examples:
    >>> metric = evaluate.load("eval/metrics/pass_at_k")
    >>> programs = [["def add(a, b): return a + b", "def add(a, b): return a - b"]]
    >>> metric.compute(predictions=programs, references=["assert add(2, 3) == 5"], k=[1, 2])["pass@1"]
    0.5
"""

_CITATION = """
@article{chen2021evaluating,
  title={Evaluating Large Language Models Trained on Code},
  author={Chen, Mark and others},
  journal={arXiv:2107.03374},
  year={2021}
}
"""


class PassAtK(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Sequence(text), "references": text}),
        )

    def _compute(self, predictions, references, k=(1,), seconds=5.0, memory_bytes=2**29, workers=None):
        from eval.code_runner import run_programs

        k = [k] if isinstance(k, int) else list(k)
        for number in k:
            for programs in predictions:
                pass_at_k(len(programs), 0, number)  # refuses a k that is larger, before anything runs
        jobs = [
            {"source": program, "tests": tests, "seconds": seconds, "memory_bytes": memory_bytes}
            for programs, tests in zip(predictions, references, strict=True)
            for program in programs
        ]
        results = iter(list(run_programs(jobs, workers=workers)))
        ended = [[next(results) for _ in programs] for programs in predictions]
        refused = next((one for problem in ended for one in problem if one.status == "refused"), None)
        if refused is not None:
            raise ValueError(f"a program was not run, so there is no score: {refused.reason}")
        statuses = [[one.status for one in problem] for problem in ended]
        scores = {
            f"pass@{number}": sum(pass_at_k(len(of_one), of_one.count("passed"), number) for of_one in statuses)
            / len(statuses)
            for number in k
        }
        isolation = sorted({one.isolation for problem in ended for one in problem})
        return scores | {"statuses": statuses, "isolation": ", ".join(isolation)}
