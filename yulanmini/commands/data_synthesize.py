"""`yulanmini data synthesize`: documents that a model writes, or that programs compute; registered by `data.py`."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_result, emit_table, say

if TYPE_CHECKING:
    from data_recipes.synthesis.run import Run

PROGRAMS = "programs"
KINDS = (
    "math-documents, code-documents, math-cot, long-cot, lean, programs, oss-instruct, science-cot, science-qa, "
    "reflection, matched-math"
)
OF_MODELS = "Where a model is asked"
OF_PROGRAMS = "For the kind programs, which asks no model"


def synthesize(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{KINDS}.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for samples/ and the report.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--in", metavar="[NAME=]PATH", help="Seeds: a file, a folder or a pattern; several may be given."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            help="A server that speaks the OpenAI protocol: http://localhost:8000/v1. Its key is read from "
            "OPENAI_API_KEY only.",
            rich_help_panel=OF_MODELS,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model's name on the server.", rich_help_panel=OF_MODELS)
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Only the first seeds; later all of them.", rich_help_panel=OF_MODELS)
    ] = None,
    votes: Annotated[
        int,
        typer.Option(
            "--votes", help="Draw so many answers of a seed; more than half must agree.", rich_help_panel=OF_MODELS
        ),
    ] = 1,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="NAME=COLUMN", help="What a column is called in the seeds.", rich_help_panel=OF_MODELS
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Sampling (temperature=0.7, max_tokens=4096) or an option of the kind.",
            rich_help_panel=OF_MODELS,
        ),
    ] = None,
    cleaning: Annotated[
        str,
        typer.Option(
            "--clean", metavar="CONFIG", help="What cleans accepted samples: copies, scores.", rich_help_panel=OF_MODELS
        ),
    ] = "synthetic",
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Ask again what the server had no answer to.", rich_help_panel=OF_MODELS),
    ] = False,
    concurrency: Annotated[
        int, typer.Option("--concurrency", help="Requests at the same time, of all tasks.", rich_help_panel=OF_MODELS)
    ] = 64,
    requests_per_minute: Annotated[int | None, typer.Option("--requests-per-minute", rich_help_panel=OF_MODELS)] = None,
    tokens_per_minute: Annotated[int | None, typer.Option("--tokens-per-minute", rich_help_panel=OF_MODELS)] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that one answer may take.", rich_help_panel=OF_MODELS)
    ] = 600.0,
    price_in: Annotated[
        float | None, typer.Option("--price-in", help="Of a million prompt tokens.", rich_help_panel=OF_MODELS)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option("--price-out", help="Of a million answer tokens.", rich_help_panel=OF_MODELS)
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", help="How many problems.", rich_help_panel=OF_PROGRAMS)
    ] = None,
    levels: Annotated[
        list[int] | None, typer.Option("--level", help="Of these levels; all.", rich_help_panel=OF_PROGRAMS)
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--language", help="en, zh; both.", rich_help_panel=OF_PROGRAMS)
    ] = None,
    problems: Annotated[
        list[str] | None,
        typer.Option("--problem", help="Only these kinds of problems; all.", rich_help_panel=OF_PROGRAMS),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", rich_help_panel=OF_PROGRAMS)] = None,
    side: Annotated[
        str | None,
        typer.Option(
            "--side", help="train, or heldout: problems that no training text holds.", rich_help_panel=OF_PROGRAMS
        ),
    ] = None,
    tasks: Annotated[int, typer.Option("--tasks", help="Work on so many shards at the same time.")] = 1,
    executor: Annotated[str, typer.Option("--executor", help="Where tasks run: local, slurm or ray.")] = "local",
    executor_config: Annotated[
        Path | None, typer.Option("--executor-config", help="Settings of the executor, a YAML file.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make synthetic documents of seeds: ask a model, parse, verify, drop copies. Every seed gets a verdict.

    After a stop the same command goes on; an answer that has arrived is never asked for again.
    """
    from data_recipes.executors.run import check_executor

    check_executor(executor, tasks, executor_config)
    where = {"tasks": tasks, "executor": cast(Any, executor), "executor_config": executor_config, "progress": True}
    of_models = {"--in": inputs, "--endpoint": endpoint, "--model": model, "--limit": limit, "--column": columns,
                 "--set": settings, "--price-in": price_in, "--price-out": price_out}  # fmt: skip
    of_programs = {"--count": count, "--level": levels, "--language": languages, "--problem": problems, "--side": side,
                   "--seed": seed}  # fmt: skip
    if kind == PROGRAMS:
        _refuse(kind, of_models)
        _programs(out, of_programs, where, dry_run, as_json)
        return
    run = _prepared(
        kind,
        of_models,
        of_programs,
        out=out,
        cleaning=cleaning,
        votes=votes,
        again=retry_failed,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        timeout=timeout,
    )
    if dry_run:
        _show_estimate(run, as_json)
        return
    from data_recipes.synthesis.progress import usage_so_far
    from data_recipes.synthesis.summary import read_summary, recipe_source
    from data_recipes.synthesis.synthesize import synthesize as make
    from yulanmini.report.synthesis import synthesis_page

    manifest = make(run, report=synthesis_page, **where)
    if manifest is None:
        say(f"handed to Slurm; the last job writes {out / 'report.html'}. The same command says how far it is.")
        return
    summary = read_summary(out)
    usage = usage_so_far(run.work)
    source = recipe_source(out, run.kind.template)
    result = {
        "folder": str(out),
        "fingerprint": manifest["fingerprint"],
        "counts": manifest["counts"],
        "reasons": summary["reasons"],
        "this_run": usage.to_json(),
        "recipe_source": source,
        **({"cost": summary["cost"]} if "cost" in summary else {}),
    }
    if as_json:
        emit_json(result)
        return
    emit_records(["verdict", "reason", "seeds"], summary["reasons"])
    spent = summary["answers"]
    cost = f", cost {summary['cost']:,.4g}" if "cost" in summary else ""
    say(
        f"{spent['answers']:,} answers to {spent['prompt_tokens']:,} tokens of prompts, with "
        f"{spent['completion_tokens']:,} tokens{cost}"
    )
    for name, counted in (("tried again", usage.retried), ("failed for good", usage.failed)):
        if counted:
            say(f"requests {name}: {', '.join(f'{number:,} ({reason})' for reason, number in counted.most_common())}")
    if summary["lost"]:
        say(f"{summary['lost']:,} seeds got no answer from the server; the same command with --retry-failed asks again")
    say(f"wrote {out}: {summary['verdicts']['accepted']:,} of {summary['seeds']:,} seeds accepted")
    say(f"in a recipe: source: {source}".replace("'", ""))


def _refuse(kind: str, options: dict[str, Any]) -> None:
    from data_recipes.errors import DataError

    for name, value in options.items():
        if value not in (None, []):
            raise DataError(f"{name}: has no meaning for the kind '{kind}'. Leave it out.")


def _prepared(
    kind: str,
    given: dict[str, Any],
    of_programs: dict[str, Any],
    *,
    out: Path,
    cleaning: str,
    votes: int,
    again: bool,
    concurrency: int,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    timeout: float,
) -> "Run":
    from data_recipes.answers.judge import same_answer
    from data_recipes.cleaning.config import load_cleaning_config
    from data_recipes.cleaning.pipeline.inputs import parse_inputs
    from data_recipes.errors import DataError, nearest
    from data_recipes.synthesis.kinds.base import Checks
    from data_recipes.synthesis.run import Server
    from data_recipes.synthesis.synthesize import kinds, prepare
    from eval.code_runner.runner import run_program

    known = [*kinds(), PROGRAMS]
    if kind not in known:
        raise DataError(f"no kind '{kind}'.{nearest(kind, known)}")
    _refuse(kind, of_programs)
    for name in ("--in", "--endpoint", "--model"):
        if not given[name]:
            raise DataError(
                f"{name}: missing; the kind '{kind}' needs seeds (--in), a server (--endpoint) and --model."
            )
    for name, value in (("--concurrency", concurrency), ("--requests-per-minute", requests_per_minute),
                        ("--tokens-per-minute", tokens_per_minute), ("--timeout", timeout)):  # fmt: skip
        if value is not None and value <= 0:
            raise DataError(f"{name} {value:g}: expected more than 0.")
    prices = (given["--price-in"], given["--price-out"])
    return prepare(
        kind,
        parse_inputs(given["--in"]),
        out,
        model=given["--model"],
        server=Server(given["--endpoint"], concurrency, requests_per_minute, tokens_per_minute, timeout),
        checks=Checks(same_answer, run_program, shutil.which("lean")),
        settings={name: _value(value) for name, value in _pairs("--set", given["--set"])},
        columns=dict(_pairs("--column", given["--column"])),
        cleaning=load_cleaning_config(cleaning),
        limit=given["--limit"],
        votes=votes,
        prices=None if prices == (None, None) else (prices[0] or 0.0, prices[1] or 0.0),
        again=again,
    )


def _pairs(option: str, typed: list[str] | None) -> list[tuple[str, str]]:
    from data_recipes.errors import DataError

    pairs = []
    for one in typed or []:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise DataError(f"{option} {one}: expected NAME=VALUE.")
        pairs.append((name, value))
    return pairs


def _value(typed: str) -> Any:
    """A number, a truth value or a list as YAML has it, else a text."""
    import yaml

    try:
        return yaml.safe_load(typed)
    except yaml.YAMLError:
        return typed


def _show_estimate(run: "Run", as_json: bool) -> None:
    from data_recipes.synthesis.estimate import estimate
    from data_recipes.synthesis.synthesize import plan

    found = estimate(run, plan(run))
    emit_result(f"would ask for {found['requests']:,} answers, for {found['seeds']:,} seeds", found, as_json)
    if as_json:
        return
    emit_table(["", "about"], [(name, value) for name, value in found.items() if name != "first_prompt"])
    print(f"\nThe first question:\n\n{found['first_prompt']}")


def _programs(out: Path, given: dict[str, Any], where: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    from data_recipes.errors import DataError
    from data_recipes.synthesis.programs.problem import LANGUAGES
    from data_recipes.synthesis.programs.run import ProgramsRequest, plan_programs, synthesize_programs
    from data_recipes.synthesis.summary import recipe_source
    from yulanmini.report.synthesis import programs_page

    if given["--count"] is None:
        raise DataError("--count: missing; how many problems are to be made?")
    request = ProgramsRequest(
        count=given["--count"],
        levels=tuple(given["--level"] or ()),
        languages=tuple(given["--language"] or LANGUAGES),
        kinds=tuple(given["--problem"] or ()),
        seed=given["--seed"] or 0,
        side=cast(Any, given["--side"] or "train"),
    )
    if dry_run:
        found = plan_programs(request, out)
        emit_result(f"would write {found['count']:,} problems into {found['files']:,} files", found, as_json)
        if not as_json:
            emit_table(["kind of problem", "share"], found["kinds"].items())
        return
    manifest = synthesize_programs(request, out, report=programs_page, **where)
    if manifest is None:
        say(f"handed to Slurm; the last job writes {out / 'report.html'}. The same command says how far it is.")
        return
    result = {"folder": str(out), "fingerprint": manifest["fingerprint"], "counts": manifest["counts"],
              "recipe_source": recipe_source(out, None)}  # fmt: skip
    emit_result(f"wrote {out}: {manifest['counts']['samples']:,} problems", result, as_json)
