"""Check a repo's folder before it goes anywhere, without a network.

Each check is a function from the repo to findings. All are in `CHECKS`, all run, and all that they find is told.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.errors import first_line
from hub_cards.checks.branches import (
    branches_and_index,
    branches_differ_as_they_should,
    optimizer_states_fit,
    weights_are_those_recorded,
)
from hub_cards.checks.config import configs_are_safe, remote_code_is_ours
from hub_cards.checks.contents import no_pickles, nothing_private, texts_can_be_read
from hub_cards.checks.generation import models_generate
from hub_cards.checks.header import headers
from hub_cards.checks.listing import allow_list, as_recorded, plain_files
from hub_cards.checks.numbers import numbers_trace
from hub_cards.checks.rows import configs_fit, rows_can_be_read
from hub_cards.checks.scores import scores_are_of_benchmarks
from hub_cards.checks.subject import Finding, Subject, error, open_subject
from hub_cards.checks.tokenizer import tokenizers_fit
from hub_cards.checks.weights import every_value_is_a_number, shards_complete, tensors_fit
from hub_cards.repos.folder import RepoType
from hub_cards.repos.run_files import RunFiles

CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    plain_files,
    allow_list,
    as_recorded,
    no_pickles,
    texts_can_be_read,
    nothing_private,
    headers,
    scores_are_of_benchmarks,
    numbers_trace,
    configs_fit,
    rows_can_be_read,
    configs_are_safe,
    remote_code_is_ours,
    shards_complete,
    tensors_fit,
    every_value_is_a_number,
    tokenizers_fit,
    branches_and_index,
    branches_differ_as_they_should,
    optimizer_states_fit,
    weights_are_those_recorded,
    models_generate,
)


@dataclass(frozen=True)
class Report:
    """What was found, each thing once, and how many seconds each check took."""

    findings: list[Finding]
    seconds: dict[str, float]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]


def check_repo(
    folder: Path, *, repo_type: RepoType | None = None, run: RunFiles | None = None, **options: Any
) -> list[Finding]:
    """Everything that is wrong with a repo's folder. With `run`, what it holds is compared with the run as well."""
    return run_checks(folder, repo_type=repo_type, run=run, **options).findings


def run_checks(
    folder: Path,
    *,
    repo_type: RepoType | None = None,
    run: RunFiles | None = None,
    generate: bool = True,
    progress: bool = False,
) -> Report:
    """All checks of a repo. Raises HubError where there is no folder, or no finished run, to look at."""
    if run is not None:
        run.phase_models()
    repo = open_subject(folder, repo_type=repo_type, run=run, generate=generate, progress=progress)
    findings: list[Finding] = []
    seconds = {}
    for check in CHECKS:
        begin = time.perf_counter()
        name = check.__name__
        try:
            findings += check(repo)
        except Exception as failure:  # a file that was made to break a check is not to pass it
            findings.append(error(".", f"the check '{name}' could not be finished ({_said(failure)})"))
        seconds[name] = round(time.perf_counter() - begin, 3)
    return Report(list(dict.fromkeys(findings)), seconds)


def _said(failure: Exception) -> str:
    return f"{type(failure).__name__}: {first_line(failure)}"
