"""Parameters and optimizer state really are split over the ranks, on gloo as on a GPU."""

import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch.distributed as dist
from accelerate import PartialState
from pretrain_miniature import write_inputs, write_run_config
from torch.distributed.tensor import DTensor, Shard

from train.config import PretrainConfig
from train.config_file import load_config
from train.launch.world import enter_world
from train.model_setup.parameter_groups import matrix_kind
from train.model_setup.phase_edges import rebalance_live
from train.pretrain import update
from train.run.run import Run


def one_rank(rank: int, port: int, config: Path, results: "multiprocessing.Queue[object]") -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    PartialState._reset_state()  # what this process took over from the one it was forked from
    settings = load_config(PretrainConfig, config)
    run = Run(settings, enter_world(settings))
    plan = run.curriculum.at(0)
    run.enter_phase(plan)
    update(run, plan)
    parameters = dict(run.model.named_parameters())
    sharded = [
        name for name, value in parameters.items() if isinstance(value, DTensor) and value.placements == (Shard(0),)
    ]
    local = sum(value.to_local().numel() for value in parameters.values())
    moments = sum(state["exp_avg"].to_local().numel() for state in run.optimizer.state.values())
    total = sum(value.numel() for value in parameters.values())
    change = rebalance_live(run.model, run.optimizer)
    sizes = [
        value.full_tensor().square().mean().sqrt().item() for name, value in parameters.items() if matrix_kind(name)
    ]
    results.put((rank, len(sharded), len(parameters), local, moments, total, change.rms, sizes))
    run.close()
    dist.barrier()
    os._exit(0)


def test_each_of_two_ranks_holds_about_half_and_both_re_balance_alike(tmp_path: Path) -> None:
    config = write_run_config(write_inputs(tmp_path / "inputs"), tmp_path / "config.yaml", heldout=None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [context.Process(target=one_rank, args=(rank, port, config, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = sorted(results.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(30)
    for _, sharded, parameters, local, moments, total, _, _ in found:
        assert sharded == parameters
        assert local < 0.6 * total
        assert moments == local
    assert sum(entry[3] for entry in found) == found[0][5]
    for *_, rms, sizes in found:
        assert rms == found[0][-2]
        assert sizes == pytest.approx([rms] * len(sizes), rel=1e-5)
