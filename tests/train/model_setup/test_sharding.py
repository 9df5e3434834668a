"""Parameters and optimizer state really are split over the ranks, on gloo as on a GPU, and training stays the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked_ranks import on_ranks
from pretrain_miniature import metrics, write_inputs, write_run_config
from torch.distributed.tensor import DTensor

from train.config import PretrainConfig
from train.config_file import load_config
from train.launch.answers import honoured
from train.launch.world import enter_world
from train.model_setup.parameter_groups import matrix_kind
from train.model_setup.phase_edges import rebalance_live
from train.pretrain import update
from train.run.outputs import evaluate
from train.run.run import Run

STEPS = (0, 1, 2, 12)


@dataclass
class Found:
    """What a rank sees of its parameters, and of the steps."""

    total: int  # elements of all parameters
    local: int
    moments: int
    parameters: int
    sharded: int  # parameters that are DTensors
    placements: set[tuple[str, ...]]
    mesh: tuple[int, ...]
    records: list[dict[str, Any]]
    rebalanced: tuple[float, list[float]]


def train_a_few_steps(config: Path, folder: Path) -> Found:
    settings = honoured(load_config(PretrainConfig, config, [f"output_dir={folder}"]))
    run = Run(settings, enter_world(settings))
    evaluate(run, "0")  # beside the loss, held-out text, rows and sources are scored: the head is called often or never
    for step in STEPS:
        plan = run.curriculum.at(step)
        run.enter_phase(plan)
        run.pending.add(update(run, plan))
        run.step += 1
    records = run.pending.take()
    for monitor in run.monitors.values():
        monitor.on_records(records)
    parameters = dict(run.model.named_parameters())
    sharded = [value for value in parameters.values() if isinstance(value, DTensor)]
    local = sum(value.to_local().numel() for value in sharded)
    moments = [state["exp_avg"] for state in run.optimizer.state.values()]
    change = rebalance_live(run.model, run.optimizer)
    sizes = [
        value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in parameters.items()
        if matrix_kind(name)
    ]
    evaluate(run, "end")
    run.close()
    run.world.barrier()
    run.world.close()
    return Found(
        total=sum(value.numel() for value in parameters.values()),
        local=local,
        moments=sum(value.to_local().numel() for value in moments if isinstance(value, DTensor)),
        parameters=len(parameters),
        sharded=len(sharded),
        placements={tuple(type(place).__name__ for place in value.placements) for value in sharded},
        mesh=tuple(sharded[0].device_mesh.shape) if sharded else (),
        records=records,
        rebalanced=(change.rms, [value.square().mean().sqrt().item() for value in sizes]),
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharding")
    monitors = {"interval": 1, "names": ["optimization", "weights", "loss_by_source"]}
    changes = {"monitors": monitors, "micro_batch_rows": 1}
    return write_run_config(write_inputs(folder / "inputs"), folder / "config.yaml", **changes)


@pytest.fixture(scope="module")
def on_one(config: Path) -> Found:
    found = train_a_few_steps(config, config.parent / "one")
    assert found.sharded == 0  # one process in float32 is left as it is
    return found


@pytest.mark.parametrize(
    ("nodes", "mesh", "placements", "parts"),
    [
        (1, (4,), ("Shard",), 4),
        (2, (2, 2), ("Replicate", "Shard"), 2),  # by default sharded within a node, replicated across nodes
    ],
)
def test_each_rank_holds_its_part_and_trains_as_one_does(
    config: Path,
    on_one: Found,
    tmp_path: Path,
    nodes: int,
    mesh: tuple[int, ...],
    placements: tuple[str, ...],
    parts: int,
) -> None:
    ranks = on_ranks(4, train_a_few_steps, config, tmp_path / "run", nodes=nodes)
    for found in ranks:
        assert found.sharded == found.parameters  # scales of one element too
        assert (found.mesh, found.placements) == (mesh, {placements})
        assert found.local < 1.2 * found.total / parts
        assert found.moments == found.local
        assert found.total == on_one.total
        rms, sizes = found.rebalanced
        assert rms == ranks[0].rebalanced[0]
        assert sizes == pytest.approx([rms] * len(sizes), rel=1e-5)
        for mine, alone in zip(found.records, on_one.records, strict=True):
            assert mine["loss"] == pytest.approx(alone["loss"], abs=2e-5)
            assert mine["grad_norm"] == pytest.approx(alone["grad_norm"], rel=2e-4)
            for key in ("weight_rms", "grad_rms", "update_rms"):
                assert mine[key] == pytest.approx(alone[key], rel=2e-3), key
            for kind, value in alone["loss_by_domain"].items():
                assert mine["loss_by_domain"][kind] == pytest.approx(value, abs=2e-4)
            for kind, values in alone["alphas"].items():
                assert mine["alphas"][kind] == pytest.approx(values, rel=1e-4)
    heldout, alone = (metrics(folder, "heldout.jsonl") for folder in (tmp_path / "run", config.parent / "one"))
    assert [line["loss"] for line in heldout] == pytest.approx([line["loss"] for line in alone], abs=1e-4)
    assert sum(found.local for found in ranks) == on_one.total * 4 // parts
