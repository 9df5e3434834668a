"""Return a run to the last checkpoint before repeated spikes, and leave out the rows that caused them."""

from train.errors import TrainError
from train.run import Run
from train.spike_rows import name_rows, row_losses


def roll_back(run: Run, steps: list[int]) -> None:
    """Go back to the last checkpoint before the first of `steps`, whose rows are never read again.

    Their worst rows are named with the weights of that checkpoint, and recorded before anything else changes: a kill
    in between only repeats what was done. Raises TrainError after `spikes.max_rollbacks`, with all work saved.
    """
    run.checkpoints.finish()
    found = run.checkpoints.latest(before=min(steps))
    if found is None or len(run.spikes.rollbacks) >= run.config.spikes.max_rollbacks:
        run.save()
        run.checkpoints.finish()
        raise TrainError(
            f"the loss spiked at steps {', '.join(str(step + 1) for step in steps)} and "
            f"{len(run.spikes.rollbacks)} roll-backs have not helped. Lower optimizer.lr, look at the rows named "
            f"in {run.folder / 'spikes.json'}, or raise spikes.max_rollbacks; the last checkpoint is kept."
        )
    to_step, trainer, _ = found
    plans = [run.curriculum.at(step) for step in sorted(set(steps))]
    run.checkpoints.load(to_step, run.model, None)
    losses = [row_losses(run.model, run.reader, plan, run.world) for plan in plans]
    named = [row for plan, loss in zip(plans, losses, strict=True) for row in name_rows(plan, loss)]
    run.spikes.add_rollback(plans, to_step=to_step, worst_rows=named)
    run.say(
        f"{len(plans)} spikes within {run.config.spikes.within} steps: rolling back to step {to_step:,}; the rows "
        f"of these steps are never read again. The worst is row {named[0]['row']} of phase {named[0]['phase']} "
        f"({run.folder / 'spikes.json'} names the documents)"
    )
    run.load(to_step, trainer)
    run.progress.reset(total=run.last_step)
    run.progress.update(to_step)
