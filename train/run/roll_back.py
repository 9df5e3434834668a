"""Return a run to the last good checkpoint before repeated spikes, and leave out the rows that caused them."""

import math
from typing import Any

from train.curriculum.plan import StepPlan
from train.errors import TrainError
from train.run.resume import return_to
from train.run.run import Run
from train.spikes.not_finite import Finding, describe, not_finite_parameters
from train.spikes.rows import name_rows, row_losses

SAME_CHECKPOINT = 2  # after so many roll-backs to one checkpoint its rows are not the reason


def roll_back(run: Run, spiked: dict[int, Finding | None]) -> None:
    """Go back to the last good checkpoint before the first of the spiked steps, whose rows are never read again.

    Where a step was not finite and no row is to blame, its rows are read again: what broke lies in the weights or the
    machine. Worst rows are named with the weights of that checkpoint, and recorded before anything else changes: a
    kill in between only repeats what was done. Raises TrainError after `spikes.max_rollbacks` or `SAME_CHECKPOINT` to
    one step, and where no checkpoint has weights that give a finite loss; checkpoints stay as they are.
    """
    run.checkpoints.finish()
    done = [rollback["to_step"] for rollback in run.spikes.rollbacks]
    if len(done) >= run.config.spikes.max_rollbacks:
        run.save()
        run.checkpoints.finish()
        raise _given_up(run, spiked, f"{len(done)} roll-backs have not helped")
    plans = [run.curriculum.at(step) for step in sorted(spiked)]
    to_step, trainer, losses = _last_good(run, spiked, plans)
    if done.count(to_step) >= SAME_CHECKPOINT:
        raise _given_up(run, spiked, f"{SAME_CHECKPOINT} roll-backs to step {to_step:,} have not helped")
    guilty, named = [], []
    for plan, loss in zip(plans, losses, strict=True):
        finding = spiked[plan.step]
        if finding is None or finding["rows"]:
            guilty.append(plan)
            named += name_rows(plan, loss, rows=finding["rows"] if finding else None)
    findings = {step: finding for step, finding in spiked.items() if finding is not None}
    run.spikes.add_rollback(guilty, to_step=to_step, worst_rows=named, not_finite=findings)
    message = f"{len(plans)} spikes within {run.config.spikes.within} steps: rolling back to step {to_step:,}"
    if findings:
        message += f"; step {min(findings) + 1} was {describe(findings[min(findings)])}"
    if guilty:
        message += (
            f"; the rows of {len(guilty)} of these steps are never read again. The worst is row {named[0]['row']} of "
            f"phase {named[0]['phase']} ({run.folder / 'spikes.json'} names the documents)"
        )
    run.say(message)
    return_to(run, to_step, trainer)


def _last_good(
    run: Run, spiked: dict[int, Finding | None], plans: list[StepPlan]
) -> tuple[int, dict[str, Any], list[dict[int, float]]]:
    """The newest checkpoint before the spikes whose weights are finite and give some row a finite loss: step, trainer
    state, losses of the spiked steps' rows. The weights are in the model then."""
    before = min(spiked)
    while (found := run.checkpoints.latest(before=before)) is not None:
        to_step, trainer, _ = found
        run.checkpoints.load(to_step, run.model, None)
        damaged = not_finite_parameters(run.model, run.world)
        if not damaged:
            losses = [row_losses(run.model, run.reader, plan, run.world) for plan in plans]
            if any(math.isfinite(loss) for of_step in losses for loss in of_step.values()):
                return to_step, trainer, losses
        why = f"are not finite ({damaged[0]})" if damaged else "give no finite loss either"
        run.say(f"the weights of step {to_step:,} {why}; going further back")
        before = to_step - 1
    raise _given_up(run, spiked, "no checkpoint has weights that give a finite loss")


def _given_up(run: Run, spiked: dict[int, Finding | None], why: str) -> TrainError:
    findings = [finding for finding in spiked.values() if finding is not None]
    found = f" ({describe(findings[0])})" if findings else ""
    return TrainError(
        f"the loss spiked at steps {', '.join(str(step + 1) for step in sorted(spiked))}{found} and {why}. Lower "
        f"optimizer.lr, look at the rows named in {run.folder / 'spikes.json'}, or raise spikes.max_rollbacks; the "
        "checkpoints are kept."
    )
