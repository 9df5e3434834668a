"""Which rows of a spiked step stand out, and which documents they come from."""

from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from data_recipes.errors import DataError
from data_recipes.rows.trace import trace
from train.curriculum.batches import StepReader, to_device
from train.curriculum.plan import StepPlan
from train.launch.world import World
from train.scoring.token_losses import losses_of

NAMED_ROWS = 8  # at most so many rows of a step are named


@torch.no_grad()
def row_losses(model: Any, reader: StepReader, plan: StepPlan, world: World) -> dict[int, float]:
    """Mean loss of each row of the step (nats a token), row by row; the same on every rank. Collective."""
    model.eval()
    mine: dict[int, float] = {}
    for batch in to_device(reader.read(plan).micro_batches, world.device):
        for index in range(len(batch.input_ids)):
            one = slice(index, index + 1)
            mine[batch.row_start + index] = float(losses_of(model, batch.input_ids[one], batch.labels[one]).mean())
    model.train()
    if world.size == 1:
        return mine
    parts: list[dict[int, float]] = [{} for _ in range(world.size)]
    dist.all_gather_object(parts, mine)
    return {row: loss for part in parts for row, loss in part.items()}


def outliers(losses: dict[int, float]) -> list[int]:
    """Rows more than six robust deviations above the median (or not finite), worst first; the worst row in any case."""
    finite = [loss for loss in losses.values() if loss == loss and loss != float("inf")]
    middle = median(finite) if finite else 0.0
    spread = 1.4826 * median([abs(loss - middle) for loss in finite]) if finite else 0.0
    order = sorted(losses, key=lambda row: losses[row] if losses[row] == losses[row] else float("inf"), reverse=True)
    beyond = [row for row in order if not losses[row] <= middle + 6 * spread]
    return (beyond or order[:1])[:NAMED_ROWS]


def name_rows(plan: StepPlan, losses: dict[int, float], *, rows: list[int] | None = None) -> list[dict[str, Any]]:
    """The outlying rows of a step (or the `rows` given) with their documents: source, file, row in the file, and span
    in its tokens."""
    named = []
    for row in outliers(losses) if rows is None else rows[:NAMED_ROWS]:
        found: dict[str, Any] = {"step": plan.step + 1, "phase": plan.phase.name, "row": row, "loss": losses[row]}
        try:
            traced = trace(plan.phase.packed.folder, row)
            found |= {"subset": traced["subset"], "documents": traced["documents"]}
        except (DataError, OSError) as error:
            found["documents_unknown"] = str(error)
        named.append(found)
    return named
