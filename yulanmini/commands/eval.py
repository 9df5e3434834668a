"""`yulanmini eval`: score a model, compare runs, try the runner of generated programs."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_result, emit_table, new_group, say
from yulanmini.run_layout import CORPUS, MERGED, TOKENIZER

app = new_group()


@app.callback()
def eval() -> None:
    """Score models on tasks (held-out bits per byte, exact match on unseen problems), and compare."""


@app.command(epilog=f"Example: yulanmini eval run runs/tiny/{MERGED} --data runs/tiny/{CORPUS} --out scores/base")
def run(
    model: Annotated[str, typer.Argument(help="Model folder or Hub id.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Corpus folder (heldout/, dialogues/), or for benchmarks what `eval fetch` laid out."),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="Suite, benchmark or task, as `eval suites` lists them; repeatable. By default quick."),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Prompt through the chat template (instruct models).")] = False,
    limit: Annotated[int | None, typer.Option(help="At most so many documents of each benchmark.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json and the logs of samples.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the tasks, such as context=1024; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (float32 on CPU, bfloat16 on GPU), float32, ...")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of the model.")] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="Ask the model MODEL of an OpenAI-compatible server: http://host:8000/v1.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="With --endpoint: folder or Hub id, if not MODEL.")] = None,
    tasks_from: Annotated[Path | None, typer.Option(help="Folder with task definitions (YAML) of your own.")] = None,
    allow_task_code: Annotated[
        bool, typer.Option("--allow-task-code", help="Let the definitions of --tasks-from run code.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score one model on suites of tasks and published benchmarks; given again, goes on where it stopped."""
    from data_recipes.endpoint.address import base_url
    from eval.errors import EvalError
    from eval.harness.given_tasks import read_given
    from eval.harness.listing import benchmark_lines
    from eval.model_loading import check_model
    from eval.ranks import leave_ranks
    from eval.scores import SCORES_NAME, value_format
    from eval.suites import DEFAULT_SUITE, prepare, run_suite
    from train.config_file import apply_override

    settings: dict[str, Any] = {"prompt": "chat"} if chat else {}
    if limit is not None:
        settings["limit"] = limit
    for change in changes or ():
        apply_override(settings, change)
    names = [name for given in suite or [DEFAULT_SUITE] for name in given.split(",")]
    if endpoint is None:
        check_model(model, device=device, dtype=dtype)
    if endpoint is not None:
        base_url(endpoint)
    elif tokenizer is not None:
        raise EvalError("--tokenizer: only with --endpoint; a model folder has its own.")
    given = read_given(tasks_from, allow_code=allow_task_code) if tasks_from else None
    if dry_run:
        inputs = {task.name: task.plan(read) for task, read in prepare(data, names, settings, out, given)}
        plan = {"model": model, "tasks": inputs, "writes": str(out / SCORES_NAME) if out else None}
        if as_json:
            emit_json(plan)
        else:
            emit_table(["benchmark", "setting", "value", "source"], benchmark_lines(names, given))
            emit_table(["would run", ""], [["model", model], ["writes", str(plan["writes"])]])
        return
    scores = run_suite(
        model,
        data=data,
        suite=names,
        settings=settings,
        out=out,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        endpoint=endpoint,
        tokenizer=tokenizer,
        given=given,
        progress=True,
    )
    leave_ranks()
    if int(os.environ.get("RANK", "0")) != 0:  # the scores are with rank 0
        return
    for note in scores["notes"]:
        say(note)
    if as_json:
        emit_json(scores)
        return
    rows = [row | {"value": format(row["value"], value_format(row))} for row in scores["rows"]]
    emit_records(["task", "measure", "of=group", "value", "chance:.1%", "count"], rows)
    if out is not None:
        say(f"Wrote {out / SCORES_NAME}")


@app.command(epilog="Example: yulanmini eval suites base")
def suites(
    names: Annotated[
        list[str] | None, typer.Argument(help="Suites, benchmarks or tasks; by default all suites.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the suites, or what some contain: every setting, and where it is from."""
    from eval.harness.listing import benchmark_lines, describe, suite_lines

    if as_json:
        emit_json(describe(names or ()))
    elif names:
        emit_table(["benchmark", "setting", "value", "source"], benchmark_lines(names))
    else:
        emit_table(["suite", "benchmarks", "description"], suite_lines())


@app.command(epilog="Example: yulanmini eval compare scores/phase-26 scores/phase-27 --published --out scores.html")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="scores.json files or their folders.")],
    published: Annotated[bool, typer.Option("--published", help="Beside the published scores, with figures.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write tables, and figures in a page: .html or .md.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for the figures as SVG files.")] = None,
    tokens: Annotated[
        list[float] | None, typer.Option(help="Tokens a run's model was trained on, in the runs' order; for Figure 1.")
    ] = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Show the scores of several runs side by side; those measured in different ways apart, with the reason."""
    from dataclasses import asdict

    from data_recipes.manifest import check_new_file
    from eval.comparison import compare as compare_runs
    from eval.published_table import comparison_sheets, published_sheets
    from eval.score_page import ENDINGS, write_sheets

    if out is not None:
        check_new_file(out, endings=ENDINGS)
    comparison = compare_runs(runs)
    beside = published_sheets(comparison) if published else []
    all_rows = comparison_sheets(comparison)
    if published and not beside:
        say("Nothing that was measured stands in a published table (`eval suites base` lists what would).")
    drawn = {}
    if plots is not None or (published and out is not None):
        from eval.score_plots import figures, write_figures

        drawn = figures(comparison, tokens or ())
        if plots is not None and not dry_run:
            for path in write_figures(drawn, plots):
                say(f"Wrote {path}")
    if out is not None:
        if not dry_run:
            write_sheets(out, beside, all_rows, drawn)
        say(f"{'Would write' if dry_run else 'Wrote'} {out}")
    if as_json:
        emit_json(comparison.as_dict() | ({"published": [asdict(sheet) for sheet in beside]} if published else {}))
        return
    for sheet in beside + all_rows:
        emit_table(sheet.headings, sheet.rows, title=sheet.title)
        for note in sheet.notes:
            say(note)


@app.command(
    epilog=f"Example: yulanmini eval tokenizer runs/tiny/{TOKENIZER} --text runs/tiny/{CORPUS} --out tokenizers"
)
def tokenizer(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Folders with tokenizer.json, or Hub ids.")],
    text: Annotated[
        Path, typer.Option(help="Folder with a file or sub-folder a domain, or a corpus folder (its held-out text).")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the numbers, the table and the figure.")] = None,
    bytes_per_domain: Annotated[int, typer.Option("--bytes", min=1, help="Bytes of text of each domain.")] = 1_000_000,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """How many bytes of text a token stands for, by domain, beside Table 2 of the report."""
    from eval import tokenizers

    read = tokenizers.Text.read(text, bytes_per_domain=bytes_per_domain)
    if out is not None:
        tokenizers.check_out(out, read, bytes_per_domain=bytes_per_domain)
    if dry_run:
        for name in names:
            tokenizers.load(name)
        emit_result(
            f"Would tokenise {sum(read.sizes.values()):,} bytes", {"bytes": read.sizes, "names": names}, as_json
        )
        return
    found = tokenizers.measure(names, read, progress=True)
    if out is not None:
        tokenizers.write(out, found, read, bytes_per_domain=bytes_per_domain)
        say(f"Wrote {out}")
    if as_json:
        emit_json(tokenizers.as_json(found, read))
        return
    sheet = tokenizers.sheet_of(found)
    emit_table(sheet.headings, sheet.rows, title=sheet.title)
    for note in sheet.notes:
        say(note)


@app.command(epilog="Example: yulanmini eval runner --isolation all --json")
def runner(
    isolation: Annotated[
        str | None, typer.Option(help="bubblewrap, namespaces, sandlock, or all; default: the one that is in use.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how this machine isolates programs that a model wrote, and attack it. Exit 0 only when all is held."""
    from tqdm import tqdm

    from eval.code_runner.attacks import ATTACKS
    from eval.code_runner.machine import attacked, chosen_backends, described

    machine = described()
    backends = chosen_backends(isolation)
    with tqdm(total=len(backends) * len(ATTACKS), desc="attacking", unit="attack") as bar:
        findings = attacked(backends, told=bar.update)
    attacks: list[dict[str, Any]] = [
        {"isolation": name, "attack": finding.attack.name, "tries": finding.attack.tries, "held": not finding.harms}
        | {"ended_as": finding.result.status, "why": finding.result.reason, "harms": list(finding.harms)}
        for name, finding in findings
    ]
    held = bool(attacks) and all(attack["held"] for attack in attacks)
    if as_json:
        emit_json({"machine": machine, "attacks": attacks, "held": held})
    else:
        shown = {key: value for key, value in machine.items() if key != "backends"} | machine["backends"]
        emit_table(["this machine", ""], [[key.replace("_", " "), str(value)] for key, value in shown.items()])
        words = {True: "held", False: "NOT HELD"}
        rows = [attack | {"result": words[attack["held"]]} for attack in attacks]
        emit_records(["isolation", "attack", "result", "ended as=ended_as", "tries"], rows)
    if not backends:
        say("No isolation works here, so generated programs are refused (docs/code-runner.md says what would help).")
    for attack in attacks:
        if not attack["held"]:
            say(f"{attack['isolation']}, {attack['attack']}: {'; '.join(attack['harms'])}")
    if not held:
        raise typer.Exit(1)


@app.command(epilog="Example: yulanmini eval fetch base --out benchmarks")
def fetch(
    suite: Annotated[list[str], typer.Argument(help="Suites or benchmarks, as `eval suites` lists them.")],
    out: Annotated[Path, typer.Option(help="Folder for the data sets; another suite adds to it.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Lay out the data of benchmarks as local folders, for machines without a network; given again, goes on."""
    from eval.harness.fetch import fetch as fetch_data
    from eval.harness.fetch import plan
    from eval.suites import benchmarks_of

    benchmarks = benchmarks_of(suite)
    if dry_run:
        steps = plan(benchmarks, out)
        if as_json:
            emit_json(steps)
        else:
            emit_records(["repo", "config", "split", "here"], steps)
        return
    result = fetch_data(benchmarks, out, progress=True)
    emit_result(f"Fetched {result['fetched']} splits; {len(result['datasets'])} data sets in {out}", result, as_json)
