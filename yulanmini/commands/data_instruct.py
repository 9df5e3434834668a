"""`yulanmini data instruct`: open sets to dialogues and preference pairs; registered by `data.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from yulanmini.console import AsJson, DryRun, emit_json, emit_records, emit_result, say

if TYPE_CHECKING:
    from data_recipes.instruct.make_pairs import Responder
    from data_recipes.instruct.pair_config import PairSettings


def instruct(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A file, or a shipped mixture: published.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl, pairs.jsonl and the report.")],
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", metavar="URL", help="The server that the judge and the pairs ask.")
    ] = None,
    tasks: Annotated[int, typer.Option("--tasks", help="Filter so many units at the same time.")] = 1,
    executor: Annotated[str, typer.Option("--executor", help="Where filters run: local, slurm or ray.")] = "local",
    executor_config: Annotated[
        Path | None, typer.Option("--executor-config", help="Settings of the executor, a YAML file.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Mix, filter and judge dialogues for tuning; choose preference pairs.

    What is dropped is kept aside with its reason. Give the same command with a changed threshold: nothing is asked
    twice. After a stop it goes on.
    """
    from data_recipes.executors.run import check_executor
    from data_recipes.instruct.config import load_instruct_config
    from data_recipes.instruct.run import instruct as make
    from data_recipes.instruct.run import plan
    from yulanmini.report.instruct import instruct_page

    checked = load_instruct_config(config, endpoint=endpoint)
    check_executor(executor, tasks, executor_config)
    if dry_run:
        rows = plan(checked, out)
        steps = checked.cleaning.labels()
        message = f"would filter {len(rows)} sources by {len(steps)} steps: {', '.join(steps)}"
        emit_result(message, {"sources": rows, "config": checked.resolved}, as_json)
        if not as_json:
            emit_records(["source", "category", "from", "files", "bytes", "licence"], rows)
        return
    manifest = make(
        checked,
        out,
        tasks=tasks,
        executor=cast(Any, executor),
        executor_config=executor_config,
        responder=local_responder,
        report=instruct_page,
        progress=True,
    )
    if manifest is None:
        say("the filters were handed to Slurm. When they are done, the same command writes the dialogues.")
        return
    counts = manifest["counts"]
    if as_json:
        emit_json({"folder": str(out), "fingerprint": manifest["fingerprint"], "counts": counts})
        return
    emit_records(["what", "count"], [{"what": key.replace("_", " "), "count": value} for key, value in counts.items()])
    say(f"wrote {out}: {counts['dialogues']:,} of {counts['read']:,} dialogues; see {out / 'report.html'}")


def local_responder(settings: "PairSettings") -> "Responder":
    """A model on this machine as the one that answers prompts of pairs."""
    from eval.generation import answers_to
    from eval.model_loading import load_model

    loaded = load_model(str(settings.model))

    class Local:
        fingerprint = str(loaded.provenance["fingerprint"])

        def answers(self, prompts: Sequence[Sequence[Any]], *, seed: int) -> list[list[str]]:
            return answers_to(
                loaded,
                prompts,
                samples=settings.samples,
                max_new_tokens=settings.max_tokens,
                temperature=settings.temperature,
                seed=seed,
            )

    return Local()
