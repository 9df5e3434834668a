"""Losses of single tokens: those of whole logits, without ever holding them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_miniature import write_inputs, write_run_config
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from modeling_yulanmini import modeling_yulanmini as modeling
from train.config import PretrainConfig
from train.config_file import load_config
from train.curriculum.batches import IGNORED, StepReader
from train.curriculum.plan import make_curriculum
from train.launch.world import World
from train.run.phases import known_phases
from train.scoring.heldout import HeldoutDomain, Protocol, heldout_scores
from train.scoring.token_losses import losses_of
from train.spikes.rows import row_losses

ONE = World(torch.device("cpu"), 0, 1)
VOCABULARY = 2000
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.2}


def yulanmini() -> Any:
    return YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(base_width=16, **SHAPE))


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def gemma() -> Any:
    """Its logits are capped behind the head."""
    return Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=2.0))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_ELEMENTS", 8 * VOCABULARY)
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_MIN_TOKENS", 1)


@contextmanager
def largest_tensor() -> Iterator[list[int]]:
    """Elements of the largest tensor that comes into being, in the list's only place."""
    largest = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = function(*args, **(kwargs or {}))
            for tensor in output if isinstance(output, (tuple, list)) else [output]:
                if isinstance(tensor, torch.Tensor):
                    largest[0] = max(largest[0], tensor.numel())
            return output

    with Watch():
        yield largest


@pytest.mark.parametrize("make", [yulanmini, llama, gemma])
def test_losses_are_those_of_whole_logits(make: Any) -> None:
    torch.manual_seed(0)
    model = make().eval()
    ids = torch.randint(0, VOCABULARY, (3, 20))
    labels = ids.masked_fill(torch.rand(3, 20) < 0.4, IGNORED)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(losses_of(model, ids, labels), expected[labels[:, 1:].flatten() != IGNORED])


@pytest.mark.parametrize("make", [yulanmini, llama])
def test_held_out_scoring_holds_the_logits_of_a_chunk(make: Any) -> None:
    torch.manual_seed(0)
    model = make()
    domain = HeldoutDomain("web", [torch.randint(3, VOCABULARY, (150,)).tolist() for _ in range(4)], bytes=1000)
    with largest_tensor() as largest:
        heldout_scores(model, [domain], Protocol(64, 32, (2,)), ONE, tokens_per_batch=256, progress=False)
    assert largest[0] == VOCABULARY * 16  # the weights; a chunk of logits has half of that, whole logits 16 times it


def test_losses_of_rows_hold_the_logits_of_a_chunk(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    config = load_config(PretrainConfig, write_run_config(inputs, tmp_path / "config.yaml"))
    curriculum = make_curriculum(config, known_phases(config))
    reader = StepReader(curriculum, ONE, vocab_size=VOCABULARY, by_lengths=True)
    plan = curriculum.at(12)
    model = yulanmini()
    with largest_tensor() as largest:
        found = row_losses(model, reader, plan, ONE)
    assert largest[0] == VOCABULARY * 16
    (batch,) = reader.read(plan).micro_batches
    model.eval()
    for index, (row, loss) in enumerate(found.items()):
        assert row == plan.row_start + index
        with torch.no_grad():
            logits = model(input_ids=batch.input_ids[index : index + 1]).logits[0, :-1]
        expected = torch.nn.functional.cross_entropy(logits, batch.labels[index, 1:], ignore_index=IGNORED)
        assert loss == pytest.approx(expected.item(), rel=1e-5)
