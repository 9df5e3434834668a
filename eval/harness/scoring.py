"""One benchmark, scored: lm-eval's evaluation of its tasks, and what comes out as rows, samples and a log."""

import contextlib
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SkipValidation

from data_recipes.manifest import fingerprint_of
from eval.code_runner import run_program
from eval.errors import EvalError
from eval.harness.benchmark import SOURCED, Benchmark
from eval.harness.data_folder import local_folder
from eval.harness.definitions import import_harness, load_tasks
from eval.harness.served import ServedModel
from eval.model_loading import LoadedModel
from eval.scores import SEPARATOR
from eval.tasks.base import Task, TaskResult, score_row
from train.launch.world import World

WHOLE = "all"
PROGRAM = "program"  # the formulation of benchmarks whose answers are run
# lm-eval's names of measures as they stand in tables; others stand as they are.
MEASURES = {
    "acc": "accuracy",
    "acc_norm": "accuracy by length",
    "acc_per_token": "accuracy by token",
    "acc_mutual_info": "accuracy over an empty question",
    "exact_match": "exact match",
    "word_perplexity": "perplexity a word",
    "f1": "F1",
}
BOOTSTRAPS = 1_000
SAMPLES = 4  # of a benchmark, in scores.json; all of them are in its log, whole
SHOWN_CHARACTERS = 1_000


class BenchmarkTask(Task):
    """A benchmark among the tasks of a suite. Settings beside those of every task:

    `limit` of documents of each of lm-eval's tasks, by default all. `seed` of few-shot examples and of sampling.
    `start` "tokenizer" puts before a text what the tokenizer puts there by itself. `batch_size` "auto": what fits.
    """

    benchmark: Benchmark
    label: str
    given: SkipValidation[Any] = Field(default=None, exclude=True, repr=False)  # `GivenTasks` of the user
    start: Literal["tokenizer", "eos", "bos", "none"] = "tokenizer"  # type: ignore[assignment]
    batch_size: int | Literal["auto"] = "auto"  # type: ignore[assignment]
    limit: int | None = Field(default=None, ge=1)
    seed: int = 1234

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.label

    @property
    def chat(self) -> bool:
        return self.benchmark.chat or self.prompt == "chat"

    def check_machine(self) -> None:
        """`EvalError` where what the benchmark needs is not installed, or no program can be run isolated."""
        import_harness()
        if self.benchmark.formulation == PROGRAM and (trial := run_program("")).status == "refused":
            raise EvalError(f"{self.name}: runs generated programs; {trial.reason}")

    def read(self, data: Path) -> Path:
        """Where the data is, checked; lm-eval reads it when the benchmark's turn comes."""
        for source in self.benchmark.data:
            local_folder(data, source.repo, source.by_hand)
        return data

    def plan(self, inputs: Path | None) -> Any:
        where = "the Hub" if inputs is None else str(inputs)
        return {
            "task": self.benchmark.task,
            "settings": {key: getattr(self.benchmark, key) for key in SOURCED},
            "source": self.benchmark.source,
            "data": [
                f"{source.repo} ({source.config or source.configs_of or 'default'}) from {where}"
                for source in self.benchmark.data
            ],
        }

    def check_model(self, loaded: LoadedModel | ServedModel) -> None:
        """`EvalError` for a model that cannot be put this benchmark's questions."""
        if loaded.max_length < self.benchmark.minimum_context:
            raise EvalError(
                f"{self.name}: needs a context of {self.benchmark.minimum_context} tokens; the model's is "
                f"{loaded.max_length} (max_position_embeddings of its config.json). Leave it out."
            )
        if self.chat and not loaded.tokenizer.chat_template:
            raise EvalError(
                f"{self.name}: is asked through the chat template, and this tokenizer has none. Score a base model "
                "with the suite base."
            )

    def score(self, loaded: LoadedModel | ServedModel, inputs: Path | None, *, progress: bool = False) -> TaskResult:
        start = self.start_tokens(loaded.tokenizer)
        if isinstance(loaded, ServedModel):
            from eval.harness.endpoint import Endpoint

            model: Any = Endpoint(loaded, start_ids=start, batch_size=self.batch_size, progress=progress)
        else:
            from eval.harness.local_model import LocalModel

            world = loaded.world or World(loaded.device, rank=0, size=1)
            model = LocalModel(loaded, world, start_ids=start, batch_size=self.batch_size, progress=progress)
        return self.score_with(model, inputs)

    def start_tokens(self, tokenizer: Any) -> list[int]:
        if self.start != "tokenizer":
            return super().start_tokens(tokenizer)
        empty = tokenizer("")["input_ids"]
        return empty[:1] if empty and empty[0] == tokenizer.bos_token_id else []

    def score_with(self, model: Any, data: Path | None) -> TaskResult:
        """The scores of a model behind lm-eval's interface (`LocalModel`)."""
        from lm_eval.evaluator import evaluate

        metadata = {"tokenizer": model.tokenizer, "context": model.max_length, "data": data, "limit": self.limit}
        loaded = load_tasks(self.name, self.benchmark, data=data, metadata=metadata, given=self.given)
        for task in loaded["tasks"].values():
            if getattr(task, "UNSAFE_CODE", False):
                raise EvalError(
                    f"{self.name}: 'unsafe_code' lets the harness run generated programs in this process, which is not "
                    "done here. Give them to eval.code_runner in a process_results of your own."
                )
            task.set_fewshot_seed(seed=self.seed)
        if model.world_size > min(len(task.eval_docs) for task in loaded["tasks"].values()) or (
            self.limit is not None and model.world_size > self.limit
        ):
            if model.rank > 0:
                return TaskResult([])
            model.work_alone()
        with quiet(), seeded(self.seed):
            results = evaluate(
                model,
                loaded,
                limit=self.limit,
                bootstrap_iters=BOOTSTRAPS,
                apply_chat_template=self.chat,
                fewshot_as_multiturn=True,
            )
        if model.world_size > 1:
            counted = model.gather_object((model.cut, model.unfinished, model.rows_used))
            if results is None:  # rank 0 has them
                return TaskResult([])
            for cut, unfinished, rows_used in counted:
                model.cut |= cut
                model.unfinished |= unfinished
                model.rows_used |= rows_used
        return self.summary(model, loaded, results)

    def protocol(self, model: Any) -> str:
        """How it was measured, in a phrase: equal phrases, comparable numbers."""
        benchmark = self.benchmark
        parts = [f"{benchmark.shots}-shot", benchmark.formulation]
        if benchmark.filter != "none":
            parts.append(benchmark.filter)
        parts += [f"{key} {value}" for key, value in sorted(benchmark.generation.items())]
        if benchmark.samples > 1:
            parts.append(f"{benchmark.samples} answers a question")
        if self.chat:
            parts.append("chat template")
        start = model.start_text
        return ", ".join(parts) + (f", begins with {start}" if start else ", nothing before the text")

    def summary(self, model: Any, loaded: Mapping[str, Any], results: Mapping[str, Any]) -> TaskResult:
        """Rows from the whole to its parts, a few samples, the log of all, and what is needed to repeat it."""
        benchmark, tasks = self.benchmark, loaded["tasks"]
        logs = {name: logged_samples(results["samples"][name], benchmark.filter) for name in tasks}
        for name, samples in logs.items():
            if not samples:
                known = sorted({sample["filter"] for sample in results["samples"][name]})
                raise EvalError(f"{self.name}: its task has no filter '{benchmark.filter}', but {', '.join(known)}.")
            for sample in samples:
                sample["chance"] = chance_of(tasks[name], sample)
                sample["tokens_cut"] = model.cut.get((name, sample["doc_id"]), 0)
                sample["unfinished"] = (name, sample["doc_id"]) in model.unfinished
        protocol = self.protocol(model)
        rows = []
        for metric in benchmark.metrics:
            for group, members, found in groups_of(loaded, results):
                row = metric_row(
                    metric, benchmark.filter, group, found, {name: results["results"][name] for name in members}
                )
                if row is None:
                    raise EvalError(
                        f"{self.name}: its task measures no '{metric}' behind the filter '{benchmark.filter}'; it has "
                        f"{', '.join(sorted(measured(results['results'][members[0]])))}."
                    )
                documents = [sample for name in members for sample in logs[name]]
                chances = [sample["chance"] for sample in documents if sample["chance"] is not None]
                row |= {
                    "chance": sum(chances) / len(chances) if chances else None,
                    "cut": sum(sample["tokens_cut"] > 0 for sample in documents),
                    "protocol": protocol,
                }
                if any(tasks[name].OUTPUT_TYPE == "generate_until" for name in members):
                    row["unfinished"] = sum(sample["unfinished"] for sample in documents)
                rows.append(row)
        log = [{"task": name, **sample} for name, samples in logs.items() for sample in samples]
        details = {
            "settings": self.model_dump(exclude={"benchmark", "label"}),
            "benchmark": benchmark.model_dump(),
            "protocol": protocol,
            "template": fingerprint_of(model.tokenizer.chat_template) if self.chat else None,
            "documents": fingerprint_of([sample.pop("document") for sample in log]),
            "prompts": fingerprint_of([sample["prompt"] for sample in log]),
            "versions": {name: str(version) for name, version in results["versions"].items()},
            "batch_rows": sorted(model.rows_used),
        }
        return TaskResult(rows, [shown(sample) for sample in log[:SAMPLES]], self.notes(rows[0]), log, details)

    def notes(self, whole: Mapping[str, Any]) -> list[str]:
        """What the user should read beside the scores."""
        notes = []
        if whole["cut"]:
            notes.append(
                f"{self.name}: {whole['cut']} of {whole['count']} prompts are longer than the model's context leaves "
                "room for; they were asked without their beginnings ('cut' in the rows)."
            )
        if whole.get("unfinished"):
            notes.append(
                f"{self.name}: {whole['unfinished']} of {whole['count']} questions have an answer that did not end by "
                "itself; it was stopped at the limit of tokens ('unfinished' in the rows)."
            )
        return notes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of lm-eval on stdout, which is for results; no bar for the building of prompts."""
    from functools import partial

    import lm_eval.api.task
    import tqdm

    bar = lm_eval.api.task.tqdm
    lm_eval.api.task.tqdm = partial(tqdm.tqdm, disable=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        lm_eval.api.task.tqdm = bar


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Everything that draws at random starts from the seed, and is as it was afterwards."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def groups_of(
    loaded: Mapping[str, Any], results: Mapping[str, Any]
) -> Iterator[tuple[str, list[str], Mapping[str, Any]]]:
    """(group of a row, the tasks in it, lm-eval's figures of it), from the whole to its parts."""
    groups = loaded.get("groups") or {}
    inner = {child for children in (loaded.get("group_map") or {}).values() for child in children}

    def walk(name: str, path: str) -> Iterator[tuple[str, list[str], Mapping[str, Any]]]:
        if name not in groups:
            yield path, [name], results["results"][name]
            return
        members = [task.task_name for task in groups[name].get_all_tasks()]
        yield path, members, results["results"].get(name, {})
        for child in loaded["group_map"][name]:
            label = results["results"].get(child, {}).get("alias") or child
            plain = str(label).rpartition("::")[2].strip(" -").removeprefix(f"{name}_").replace("_", " ")
            yield from walk(child, f"{path}{SEPARATOR}{plain}")

    tops = [name for name in [*groups, *loaded["tasks"]] if name not in inner]
    if len(tops) == 1:
        yield from walk(tops[0], WHOLE)
        return
    yield WHOLE, list(loaded["tasks"]), {}
    for top in tops:
        yield from walk(top, f"{WHOLE}{SEPARATOR}{top.replace('_', ' ')}")


def metric_row(
    metric: str, filter_name: str, group: str, found: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """A row of one measure: what lm-eval has for the group, else the mean over its documents. None: not measured."""
    key, stderr_key = f"{metric},{filter_name}", f"{metric}_stderr,{filter_name}"
    sizes = {name: int(figures["sample_len"]) for name, figures in members.items()}
    count = sum(sizes.values())
    if not all(key in figures for figures in members.values()):
        return None
    value = found.get(key)
    if value is None:
        value = sum(figures[key] * sizes[name] for name, figures in members.items()) / count
    better: Literal["lower", "higher"] = "lower" if "perplexity" in metric or "bits" in metric else "higher"
    row = score_row(MEASURES.get(metric, metric.replace("_", " ")), group, float(value), better=better, count=count)
    stderr = found.get(stderr_key)
    return row | {"stderr": float(stderr) if isinstance(stderr, int | float) else None}


def measured(figures: Mapping[str, Any]) -> set[str]:
    """The names of what lm-eval measured of a task."""
    return {key.partition(",")[0] for key in figures if "," in key and "_stderr," not in key}


def logged_samples(samples: Sequence[Mapping[str, Any]], filter_name: str) -> list[dict[str, Any]]:
    """lm-eval's record of each document, the prompt once and not with each of its choices."""
    return [
        {
            "doc_id": sample["doc_id"],
            "document": sample["doc"],
            "prompt": sample["arguments"][0][0],
            "choices": [arguments[1] for arguments in sample["arguments"] if isinstance(arguments[1], str)],
            "settings": next((arguments[1] for arguments in sample["arguments"] if isinstance(arguments[1], dict)), {}),
            "responses": sample["resps"],
            "answer": sample["filtered_resps"],
            "target": sample["target"],
            "scores": {metric: sample[metric] for metric in sample["metrics"]},
        }
        for sample in sorted(samples, key=lambda sample: sample["doc_id"])
        if sample["filter"] == filter_name
    ]


def chance_of(task: Any, sample: Mapping[str, Any]) -> float | None:
    """What a guess gets: its share of the choices, or what the task says; None where answers are written freely."""
    if "chance" in sample["scores"]:
        return float(sample["scores"]["chance"])
    return 1 / len(task.doc_to_choice(sample["document"])) if task.OUTPUT_TYPE == "multiple_choice" else None


def shown(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample as scores.json has it."""
    answer = sample["answer"][0] if len(sample["answer"]) == 1 else sample["answer"]
    (first, *_) = sample["scores"].values()
    return {
        "prompt": sample["prompt"][-SHOWN_CHARACTERS:],
        "output": answer if isinstance(answer, str) else json.dumps(answer, default=str),
        "expected": str(sample["target"]),
        "correct": bool(first) if isinstance(first, int | float) else None,
        "language": "en",
        "task": sample["task"],
    }
