"""Suites of scores and their file: what is measured, on what, with which versions, written as scores.json."""

import json
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from data_recipes.files import write_whole
from data_recipes.manifest import claim_folder, folder_state
from eval import corpus_folder
from eval.errors import EvalError
from eval.model_loading import LoadedModel, load_model
from eval.tasks.heldout import score_heldout
from eval.tasks.problems import PROMPTS, answer_problems, tally
from eval.tasks.samples import continuation_samples, problem_samples

SCHEMA_VERSION = 1
SCORES_NAME = "scores.json"
KIND = "scores"
PACKAGES = ("yulanmini", "torch", "transformers", "tokenizers")
SUITES = {
    "heldout": ("heldout",),
    "problems": ("problems",),
    "miniature": ("heldout", "problems", "samples"),
}


@dataclass(frozen=True)
class SuiteSettings:
    """How to measure. `prompt`: "chat" for an instruct model, "question" for a base model."""

    suite: str = "miniature"
    prompt: str = "question"
    start: str = "eos"
    context: int | None = None
    stride: int | None = None
    bytes_per_domain: int | None = None
    per_kind: int | None = None
    batch_size: int = 64

    def check(self) -> None:
        for name, value, known in (("suite", self.suite, SUITES), ("prompt", self.prompt, PROMPTS)):
            if value not in known:
                near = get_close_matches(value, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}."
                raise EvalError(f"no {name} '{value}'; {hint}")
        for name in ("context", "stride", "bytes_per_domain", "per_kind", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EvalError(f"{name} {value}: expected at least 1.")


def run_suite(
    model: str | Path | LoadedModel,
    *,
    data: Path,
    settings: SuiteSettings | None = None,
    out: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model on a corpus folder; returns the scores and writes them to `out`/scores.json if given.

    Keys: "heldout" {domain: ...}, "problems" (by kind, level, language), "levels" (by level), "samples",
    "provenance". Greedy and without chance: the same files give the same scores.

    Before a model is loaded: `EvalError` for settings or data that cannot be scored, `DataError` for an `out` that
    holds anything but scores of the same model, data and settings.
    """
    settings = settings or SuiteSettings()
    settings.check()
    if out is not None:
        folder_state(Path(out), kind=KIND)
    data = Path(data)
    parts = SUITES[settings.suite]
    # Bad data is named before a model is loaded for it.
    texts = corpus_folder.heldout_texts(data, bytes_per_domain=settings.bytes_per_domain) if "heldout" in parts else {}
    problems = corpus_folder.unseen_problems(data, per_kind=settings.per_kind) if "problems" in parts else []
    loaded = (
        model
        if isinstance(model, LoadedModel)
        else load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    )
    made_from = {
        "model": loaded.provenance["fingerprint"] or [loaded.provenance["name"], loaded.provenance["revision"]],
        "data": corpus_folder.fingerprint(data),
        "settings": asdict(settings),
    }
    if out is not None:
        folder_state(Path(out), kind=KIND, made_from=made_from)
    result: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "model": loaded.provenance["name"]}
    seconds = {}
    if "heldout" in parts:
        began = perf_counter()
        result["heldout"] = score_heldout(
            loaded,
            texts,
            context=settings.context,
            stride=settings.stride,
            start=settings.start,
            progress=progress,
        )
        seconds["heldout"] = perf_counter() - began
    if "problems" in parts:
        began = perf_counter()
        answers = answer_problems(
            loaded,
            problems,
            prompt=settings.prompt,
            start=settings.start,
            batch_size=settings.batch_size,
            progress=progress,
        )
        result["levels"] = tally(answers, "level")
        result["problems"] = tally(answers, "kind", "level", "language")
        seconds["problems"] = perf_counter() - began
    if "samples" in parts:
        shown = problem_samples(answers)
        if settings.prompt == "question":
            shown += continuation_samples(loaded, texts, start=settings.start)
        result["samples"] = shown
    result["provenance"] = {
        "model": loaded.provenance,
        "data": {"fingerprint": made_from["data"]},
        "settings": asdict(settings),
        "decoding": "greedy",
        "packages": {name: version(name) for name in PACKAGES},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    if out is not None:
        claim_folder(Path(out), kind=KIND, made_from=made_from)
        write_scores(Path(out), result)
    return result


def write_scores(folder: Path, result: dict[str, Any]) -> Path:
    """Write scores.json whole or not at all; replaces an older one."""
    path = folder / SCORES_NAME
    write_whole(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return path
