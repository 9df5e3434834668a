"""Return a run to the last good checkpoint before repeated spikes, and leave out the rows that caused them."""

import math
from typing import Any

from train.curriculum.plan import StepPlan
from train.errors import TrainError
from train.run.resume import return_to
from train.run.run import Run
from train.spikes.rows import name_rows, row_losses

SAME_CHECKPOINT = 2  # after so many roll-backs to one checkpoint its rows are not the reason


def roll_back(run: Run, steps: list[int]) -> None:
    """Go back to the last good checkpoint before the first of `steps`, whose rows are never read again.

    Their worst rows are named with the weights of that checkpoint, and recorded before anything else changes: a kill
    in between only repeats what was done. Raises TrainError after `spikes.max_rollbacks` or `SAME_CHECKPOINT` to one
    step, and where no checkpoint has weights that give a finite loss; checkpoints stay as they are.
    """
    run.checkpoints.finish()
    done = [rollback["to_step"] for rollback in run.spikes.rollbacks]
    if len(done) >= run.config.spikes.max_rollbacks:
        run.save()
        run.checkpoints.finish()
        raise _given_up(run, steps, f"{len(done)} roll-backs have not helped")
    plans = [run.curriculum.at(step) for step in sorted(set(steps))]
    to_step, trainer, losses = _last_good(run, steps, plans)
    if done.count(to_step) >= SAME_CHECKPOINT:
        raise _given_up(run, steps, f"{SAME_CHECKPOINT} roll-backs to step {to_step:,} have not helped")
    named = [row for plan, loss in zip(plans, losses, strict=True) for row in name_rows(plan, loss)]
    run.spikes.add_rollback(plans, to_step=to_step, worst_rows=named)
    run.say(
        f"{len(plans)} spikes within {run.config.spikes.within} steps: rolling back to step {to_step:,}; the rows "
        f"of these steps are never read again. The worst is row {named[0]['row']} of phase {named[0]['phase']} "
        f"({run.folder / 'spikes.json'} names the documents)"
    )
    return_to(run, to_step, trainer)


def _last_good(run: Run, steps: list[int], plans: list[StepPlan]) -> tuple[int, dict[str, Any], list[dict[int, float]]]:
    """The newest checkpoint before the spikes whose weights give some row a finite loss: step, trainer state, losses
    of the spiked steps' rows. The weights are in the model then."""
    before = min(steps)
    while (found := run.checkpoints.latest(before=before)) is not None:
        to_step, trainer, _ = found
        run.checkpoints.load(to_step, run.model, None)
        losses = [row_losses(run.model, run.reader, plan, run.world) for plan in plans]
        if any(math.isfinite(loss) for of_step in losses for loss in of_step.values()):
            return to_step, trainer, losses
        run.say(f"the weights of step {to_step:,} give no finite loss either; going further back")
        before = to_step - 1
    raise _given_up(run, steps, "no checkpoint has weights that give a finite loss")


def _given_up(run: Run, steps: list[int], why: str) -> TrainError:
    return TrainError(
        f"the loss spiked at steps {', '.join(str(step + 1) for step in steps)} and {why}. Lower optimizer.lr, look "
        f"at the rows named in {run.folder / 'spikes.json'}, or raise spikes.max_rollbacks; the checkpoints are kept."
    )
