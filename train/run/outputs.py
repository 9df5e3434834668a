"""What a run leaves beside checkpoints: exported models, held-out and task scores at phase ends, its manifest."""

import shlex
import subprocess
import sys
from pathlib import Path

from data_recipes.manifest import fingerprint_of, write_manifest
from data_recipes.recipes.phases import phase_folder
from train.checkpoints.export import export_model
from train.config_file import resolved
from train.curriculum.plan import Phase
from train.run.inputs import RUN_KIND
from train.run.run import Run
from train.scoring.heldout import heldout_scores


def end_phase(run: Run, phase: Phase) -> None:
    """Export and held-out scores after a phase; the checkpoint comes first, as these can run out of memory."""
    run.checkpoints.finish()
    destination = run.folder / "models" / phase_folder(phase.name)
    if run.config.export.phase_ends and run.broadcast_from_main(not destination.exists()):
        export_model(
            run.model,
            destination,
            run.world,
            tokenizer=run.config.tokenizer,
            dtype=run.config.export.dtype,
            inputs={"run": fingerprint_of(run.identity), "tokenizer": run.tokenizer_fingerprint},
            step=run.step,
            phase=phase.name,
        )
    evaluate(run, phase.name)
    if run.config.evaluation is not None and run.world.is_main:
        problem = score_tasks(run.config.evaluation.command, destination, run.folder / "scores" / destination.name)
        if problem:
            run.say(f"warning: {problem}")
    run.restart_clock()


def score_tasks(command: str, model: Path, scores: Path) -> str | None:
    """Run the command that writes the folder `scores` for a model folder; what went wrong, or None."""
    if scores.exists():
        return None
    places = {"{model}": str(model), "{scores}": str(scores), "{python}": sys.executable}
    words = [places.get(word, word) for word in shlex.split(command)]
    try:
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        return f"evaluation.command: {words[0]} cannot be run ({error.strerror})."
    if done.returncode == 0:
        return None
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return f"{shlex.join(words)} failed: {last[0]}"


def evaluate(run: Run, phase: str) -> None:
    """Held-out loss of every domain into heldout.jsonl, unless already there."""
    done = {line["domain"] for line in run.heldout_log.lines() if line["step"] == run.step}
    if not run.broadcast_from_main(bool({domain.name for domain in run.heldout} - done)):
        return
    run.flush()
    run.heldout_log.cut_after(run.step - 1)
    per_batch = max(run.config.tokens_per_step // run.world.size, 1)
    records = heldout_scores(
        run.model, run.heldout, run.heldout_protocol, run.world, tokens_per_batch=min(per_batch, 16_384)
    )
    run.heldout_log.append([{"step": run.step, "phase": phase, **record} for record in records])
    run.restart_clock()


def finish(run: Run) -> None:
    """Last checkpoint, then the manifest, which marks the run as finished."""
    run.save()
    run.checkpoints.finish()
    run.progress.close()
    if not run.world.is_main:
        return
    phases = [phase for phase in run.curriculum.phases if phase.first_step < run.step]
    write_manifest(
        run.folder,
        kind=RUN_KIND,
        inputs={"tokenizer": run.tokenizer_fingerprint, **{p.name: p.fingerprint for p in phases}},
        config=resolved(run.config, run.folder),
        counts={
            "steps": run.step,
            "tokens": run.step * run.config.tokens_per_step,
            "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
            "phases": [p.name for p in phases if p.end_step <= run.step],
        },
        seed=run.config.seed,
        spikes=run.spikes.rollbacks,
    )
