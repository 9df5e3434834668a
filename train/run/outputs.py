"""What a run leaves beside checkpoints: exported models, held-out and task scores at phase ends, its manifest."""

from collections.abc import Callable
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
    destination = _model_folder(run, phase)
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
    score_phases(run)
    run.restart_clock()


def score_phases(run: Run) -> None:
    """Have the models of all finished phases scored whose scores are not there: also what a kill has left undone."""
    for phase in run.curriculum.phases:
        if phase.end_step <= run.step:
            run.scores.add(_model_folder(run, phase))


def _model_folder(run: Run, phase: Phase) -> Path:
    return run.folder / "models" / phase_folder(phase.name)


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


def finish(run: Run, wanted: Callable[[], int]) -> bool:
    """Last checkpoint, the scores that are still being made, then the manifest, which marks the run as finished.

    False where a stop is `wanted` before the last scores are there.
    """
    run.save()
    run.checkpoints.finish()
    run.progress.close()
    if not run.world.is_main:
        return True
    if (problems := run.scores.finish(wanted)) is None:
        return False
    for problem in problems:
        run.say(f"warning: {problem}")
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
    return True
