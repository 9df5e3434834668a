"""Programs of samples, run by the runner that the front gives; where none can be isolated they stay unchecked."""

from dataclasses import dataclass, replace
from typing import Any

from data_recipes.synthesis.kinds.base import Checks, Sample

SECONDS = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a program ended (as `eval.code_runner`'s result), and the sample, unchecked where nothing was run."""

    sample: Sample
    status: str
    stdout: str


def ran(sample: Sample, checks: Checks, code: str, **given: Any) -> Outcome:
    """The outcome of a program; `given`: its tests, or what it finds on its standard input."""
    result = checks.run_program(code, seconds=SECONDS, **given)
    if result.status == "refused":
        return Outcome(replace(sample, checked=False), "refused", "")
    return Outcome(sample, result.status, result.stdout)
