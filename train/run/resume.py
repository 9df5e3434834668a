"""Where a run begins: at step 0, or at a checkpoint of its own. What later steps left is removed."""

from pathlib import Path
from typing import Any

from data_recipes.errors import listed
from data_recipes.files import write_whole
from data_recipes.manifest import MANIFEST_NAME
from train.checkpoints.sharded import check_contents, load_state, read_trainer
from train.checkpoints.training_state import is_training_state
from train.config_file import resolved, settings_text
from train.errors import TrainError
from train.run.inputs import changes, check_init, holds_model
from train.run.outputs import end_phase, evaluate, score_phases
from train.run.run import Run


def start_or_resume(run: Run, *, force: bool) -> None:
    """Resume from the newest whole checkpoint, or begin; TrainError where the checkpoint is of another run."""
    found = run.checkpoints.latest()
    if found is None:
        if run.metrics.lines() and not force:
            raise TrainError(
                f"{run.folder}: holds the log of a run but no checkpoint. Choose another output_dir or remove it."
            )
        _begin(run)
        _say_how(run)
        return
    step, trainer, problems = found
    for problem in problems:
        run.say(f"skipping a damaged checkpoint: {problem} Going back to step {step}.")
    if not force:
        refuse_other_settings(run.checkpoints.path_of(step), trainer, run.identity)
    return_to(run, step, trainer)
    run.say(f"resuming from step {step:,} of {run.last_step:,}")
    _say_how(run)


def _say_how(run: Run) -> None:
    """What was chosen for this machine, once nothing is refused any more: a refusal is one message."""
    for note in filter(None, (run.attention_note, run.rows_note)):
        run.say(note)
    run.say_what_is_missing()


def refuse_other_settings(checkpoint: Path, trainer: dict[str, Any], identity: dict[str, Any]) -> None:
    """TrainError where a checkpoint is of a run with another identity."""
    changed = changes(trainer["identity"], identity, step=trainer["step"])
    if changed:
        raise TrainError(
            f"{checkpoint} belongs to a run with other settings:\n{listed(changed)}\n"
            "Restore them, choose another output_dir, or add --force to resume with the new ones."
        )


def _begin(run: Run) -> None:
    """Step 0: state of the user's own checkpoint if one is named, a first checkpoint to fall back on."""
    init = run.config.init
    if init is not None and not holds_model(init.path):
        check_init(init.path, tokenizer=run.tokenizer_fingerprint)
        check_contents(init.path, read_trainer(init.path), run.world)
        load_state(init.path, run.model, run.optimizer if init.optimizer else None)
    elif init is not None and init.optimizer:
        advice = "holds no optimizer state."
        if is_training_state(init.path):
            advice = "its optimizer state must be a checkpoint: `yulanmini model import-optimizer` makes one of it."
        raise TrainError(f"init.optimizer: {init.path} is a model folder; {advice}")
    run.count_from(0)
    _cut_back(run, -1)
    run.save()
    evaluate(run, "0")


def return_to(run: Run, step: int, trainer: dict[str, Any]) -> None:
    """Restore the state saved at `step`; logs and later checkpoints are cut back to it."""
    run.checkpoints.load(step, run.model, run.optimizer)
    for name, monitor in run.monitors.items():
        if name in trainer["monitors"]:
            monitor.load_state_dict(trainer["monitors"][name])
    run.guard.load_state_dict(trainer["guard"])
    run.spikes.load_state_dict(trainer["spikes"])
    run.checkpoints.remove_after(step)
    _cut_back(run, step)
    run.pending.take()
    run.count_from(step)
    run.progress.reset(total=run.last_step)
    run.progress.n = run.progress.initial = step  # the rate is that of the steps done from here on
    score_phases(run)
    if step == 0:
        evaluate(run, "0")
    elif ended := run.curriculum.phase_ending_at(step):
        run.enter(ended)
        end_phase(run, ended)  # what a kill between checkpoint and export left undone


def _cut_back(run: Run, step: int) -> None:
    """Leave nothing of later steps in the logs, and no manifest, which would call the run finished."""
    for log in (run.metrics, run.heldout_log):
        log.cut_after(step)
    if run.world.is_main:
        (run.folder / MANIFEST_NAME).unlink(missing_ok=True)
        # `micro_batch_rows: auto` stays, so that a resume on other hardware chooses anew; a comment says what it was.
        note = f"# {run.rows_note}\n" if run.rows_note else ""
        write_whole(run.folder / "config.yaml", note + settings_text(resolved(run.config, run.folder)))
