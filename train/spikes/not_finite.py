"""What was not finite first in a step that has no finite loss or gradient norm, and whether rows are to blame.

The step is done again without an update. Rows are blamed only where the weights were finite before it and other rows
of the step are finite without them: damaged weights make every row look guilty.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from train.curriculum.batches import MicroBatch, StepReader, to_device
from train.curriculum.plan import StepPlan
from train.launch.world import World
from train.model_setup.optimizers import local
from train.spikes.rows import row_losses

NAMED = 8  # at most so many tensors are named

# {"first": "weights", "activations", "loss", "gradients" or "nothing"; "where": names of tensors or modules, the first
# one first; "rows": rows of the phase to blame}. Token ids are integers: what enters first is the embedding's output.
Finding = dict[str, Any]


def first_not_finite(model: Any, reader: StepReader, plan: StepPlan, world: World) -> Finding:
    """Find out with the model's present weights; gradients are gone afterwards. The same on every rank. Collective.

    "nothing": with these weights the step is finite. Its updates were left out, so either a later step has changed the
    weights, or the machine made an error once.
    """
    if damaged := not_finite_parameters(model, world):
        return {"first": "weights", "where": damaged[:NAMED], "rows": []}
    activations, losses = _activations_and_loss(model, reader.read(plan).micro_batches, world)
    gradients = _names_where((name, local(p.grad)) for name, p in reversed(parameters(model)) if p.grad is not None)
    gradients = _on_any_rank(gradients, [name for name, _ in reversed(parameters(model))], world)
    model.zero_grad(set_to_none=True)
    if activations or losses:
        rows = [row for row, loss in row_losses(model, reader, plan, world).items() if not math.isfinite(loss)]
        first = "activations" if activations else "loss"
    elif gradients:
        rows = [
            row for row in range(plan.row_start, plan.row_stop) if not _row_is_finite(model, reader, plan, row, world)
        ]
        first = "gradients"
    else:
        return {"first": "nothing", "where": [], "rows": []}
    all_of_them = len(rows) == plan.row_stop - plan.row_start
    return {"first": first, "where": (activations or gradients)[:NAMED], "rows": [] if all_of_them else sorted(rows)}


def parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(model.named_parameters())


def not_finite_parameters(model: nn.Module, world: World) -> list[str]:
    """Names of the parameters with a value that is not finite; the same on every rank. Collective."""
    mine = _names_where((name, local(parameter)) for name, parameter in parameters(model))
    return _on_any_rank(mine, [name for name, _ in parameters(model)], world)


def describe(finding: Finding) -> str:
    """In words, for messages."""
    if finding["first"] == "nothing":
        return "not found again when the step was done once more"
    where = f": {', '.join(finding['where'][:2])}" if finding["where"] else ""
    where += f" and {len(finding['where']) - 2} more" if len(finding["where"]) > 2 else ""
    rows = f"row {', '.join(map(str, finding['rows'][:NAMED]))} alone" if finding["rows"] else "no single row"
    return f"not finite first: {finding['first']}{where}; {rows} to blame"


def _activations_and_loss(model: Any, batches: list[MicroBatch], world: World) -> tuple[list[str], bool]:
    """Modules whose output is not finite, in the order of the forward pass, and whether the loss is not; gradients are
    left on the parameters."""
    base = model.model
    watched = {"model.embed_tokens": base.embed_tokens}
    watched |= {f"model.layers.{index}": layer for index, layer in enumerate(base.layers)} | {"model.norm": base.norm}
    finite = {name: torch.ones((), dtype=torch.bool, device=world.device) for name in watched}

    def look(name: str, module: nn.Module, args: Any, output: Any) -> None:
        hidden_states = output if torch.is_tensor(output) else output[0]
        finite[name] = finite[name] & hidden_states.detach().isfinite().all()

    handles = [module.register_forward_hook(partial(look, name)) for name, module in watched.items()]
    finite_loss = torch.ones((), dtype=torch.bool, device=world.device)
    try:
        for batch in to_device(batches, world.device):
            finite_loss = finite_loss & _backward(model, batch).isfinite()
    finally:
        for handle in handles:
            handle.remove()
    names = _on_any_rank([name for name in watched if not finite[name]], list(watched), world)
    return names, world.any(float(not finite_loss))[0] > 0


def _backward(model: Any, batch: MicroBatch) -> torch.Tensor:
    loss = model(input_ids=batch.input_ids, labels=batch.labels, use_cache=False, **batch.document_arguments).loss
    loss.backward()
    return loss.detach()


def _row_is_finite(model: Any, reader: StepReader, plan: StepPlan, row: int, world: World) -> bool:
    """Whether the gradients of one row by itself are finite. All ranks take the same row, as sharded gradients mix
    those of the ranks."""
    for batch in to_device([reader.read_rows(plan.phase, row, row + 1)], world.device):
        _backward(model, batch)
    bad = _names_where((name, local(p.grad)) for name, p in parameters(model) if p.grad is not None)
    model.zero_grad(set_to_none=True)
    return world.any(float(bool(bad)))[0] == 0


def _names_where(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors that are not finite; one synchronisation with the device."""
    named = list(tensors)
    if not named:
        return []
    finite = torch.stack([tensor.detach().isfinite().all() for _, tensor in named]).tolist()
    return [name for (name, _), is_finite in zip(named, finite, strict=True) if not is_finite]


def _on_any_rank(mine: list[str], names: list[str], world: World) -> list[str]:
    """Those of `names`, in their order, that some rank has among its own."""
    flags = world.any(*(float(name in mine) for name in names))
    return [name for name, flag in zip(names, flags, strict=True) if flag]
