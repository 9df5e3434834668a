"""Attention of packed rows: documents apart without a mask, one graph whatever their number, no padding in a result."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from modeling_yulanmini import YuLanMiniConfig, YuLanMiniForCausalLM
from train.config import RecomputationSettings
from train.errors import TrainError
from train.model_setup import attention
from train.model_setup.attention import check_masks, choose_attention
from train.model_setup.recomputation import set_layer_execution

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TOKENS = 96


def model(layers: int = 2, **changes: Any) -> YuLanMiniForCausalLM:
    torch.manual_seed(0)
    shape = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    made = YuLanMiniForCausalLM(YuLanMiniConfig.reparametrized(base_width=32, **(shape | heads | changes)))
    made.set_attn_implementation(choose_attention("auto", precision="float32", device=CPU)[0])
    return made.train()


def cut(lengths: list[int], places: int) -> dict[str, Any]:
    """Document arguments with empty documents at the end."""
    ends = torch.tensor([0, *lengths, *[0] * (places - len(lengths))]).cumsum(0).int()
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": TOKENS, "max_length_k": TOKENS}


def documents(count: int) -> list[int]:
    """Two rows of `TOKENS` tokens in `count` documents of several lengths, among them one token."""
    return [*range(1, count - 1), TOKENS - sum(range(1, count - 1)), TOKENS]


def step(made: YuLanMiniForCausalLM, lengths: list[int], places: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    rows = torch.randint(4, 97, (2, TOKENS), generator=torch.Generator().manual_seed(7))
    made.zero_grad()
    loss = made(rows, labels=rows, use_cache=False, **cut(lengths, places)).loss
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in made.parameters()]


def test_empty_documents_at_the_end_change_no_bit() -> None:
    made, lengths = model(), documents(9)
    loss, gradients = step(made, lengths, len(lengths))
    padded_loss, padded = step(made, lengths, 64)
    assert torch.equal(loss, padded_loss)
    assert all(torch.equal(a, b) for a, b in zip(gradients, padded, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_documents_in_a_row_are_attended_to_as_documents_alone(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 5, 1, 13, 8, 8, 8]
    # Transposed, as a model's states are.
    states = [torch.randn(1, 48, heads, 8, generator=generator).to(dtype).transpose(1, 2) for heads in (4, 2, 2)]
    states = [tensor.requires_grad_() for tensor in states]
    found, _ = attention.varlen_attention(torch.nn.Module(), *states, None, scaling=0.3, **cut(lengths, 9))
    alone = [
        torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True, scale=0.3, enable_gqa=True)
        for parts in zip(*(tensor.split(lengths, dim=2) for tensor in states), strict=True)
    ]
    expected = torch.cat(alone, dim=2).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    towards = torch.randn(found.shape, generator=generator).to(dtype)
    for ours, theirs in zip(
        torch.autograd.grad(found, states, towards), torch.autograd.grad(expected, states, towards), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_rows_of_one_document_run_as_plain_causal_attention() -> None:
    made = model()
    rows = torch.randint(4, 97, (2, 24), generator=torch.Generator().manual_seed(7))
    found = made(rows).logits
    made.set_attn_implementation("sdpa")
    torch.testing.assert_close(found, made(rows).logits, rtol=0, atol=0)
    with pytest.raises(ValueError, match="no mask, no cache"):
        attention.varlen_attention(torch.nn.Module(), *[torch.ones(1, 2, 4, 8)] * 3, torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize("mode", ["none", "full", "selective"])
def test_a_phase_is_one_graph_whatever_its_number_of_documents(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """More counts than the eight variants after which torch.compile gives up and runs eagerly."""
    made = model(layers=3)
    counter = graphs(made, monkeypatch, mode)
    results = {count: step(made, documents(count), 64) for count in range(2, 14)}
    assert counter.frame_count == 1
    set_layer_execution(made, RecomputationSettings(), compile=False)
    for count, (loss, gradients) in results.items():
        expected_loss, expected = step(made, documents(count), 64)
        torch.testing.assert_close(loss, expected_loss)
        for found, right in zip(gradients, expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)


def test_without_the_padding_there_would_be_a_graph_for_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    counter = graphs(made, monkeypatch, "none")
    for count in (3, 4, 5):
        step(made, documents(count), count)
    assert counter.frame_count == 3


def graphs(made: YuLanMiniForCausalLM, monkeypatch: pytest.MonkeyPatch, mode: Any) -> CompileCounter:
    """Compile the layers, and only look at what is compiled; the counter counts graphs."""
    torch._dynamo.reset()
    counter, compile_with = CompileCounter(), torch.compile
    only_graphs: Callable[..., Any] = lambda function, **settings: compile_with(  # noqa: E731
        function, **(settings | {"backend": counter})
    )
    monkeypatch.setattr(torch, "compile", only_graphs)
    set_layer_execution(made, RecomputationSettings(mode=mode), compile=True)
    return counter


class LongPhase:
    name, context_length, document_mask = "27", 28_672, True


@pytest.mark.parametrize("name", ["sdpa", "eager"])
def test_a_mask_of_a_long_context_is_refused(name: str) -> None:
    with pytest.raises(
        TrainError, match=r"phase 27: attention .* 822 MB a row of 28,672 tokens. Set attention to auto"
    ):
        check_masks([LongPhase()], name)  # type: ignore[list-item]
    check_masks([LongPhase()], "varlen")  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("wanted", "precision", "capability", "name", "said"),
    [
        ("auto", "bfloat16", (9, 0), "varlen", "torch's own FlashAttention"),
        ("auto", "bfloat16", (8, 0), "varlen", "torch's own FlashAttention"),
        ("auto", "fp8", (9, 0), "varlen", "torch's own FlashAttention"),
        ("auto", "bfloat16", (7, 5), "sdpa", "needs Ampere or newer"),
        ("auto", "float32", (9, 0), "sdpa", "precision is float32"),
        ("flex_attention", "bfloat16", (9, 0), "flex_attention", "flex_attention"),
    ],
)
def test_auto_takes_what_the_gpu_can_do_and_says_so(
    monkeypatch: pytest.MonkeyPatch, wanted: str, precision: str, capability: tuple, name: str, said: str
) -> None:
    monkeypatch.setattr(attention, "_kernel", attention._kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found, line = choose_attention(wanted, precision=precision, device=GPU)
    assert found == name
    assert said in line


def test_flash_attention_3_is_given_to_torch_where_its_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_kernel", attention._kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "flash_attn_interface")
    activated: list[str] = []
    monkeypatch.setattr(attention, "activate_flash_attention_impl", activated.append)
    assert "FlashAttention 3" in choose_attention("auto", precision="bfloat16", device=GPU)[1]
    assert activated == ["FA3"]


def test_varlen_in_float32_on_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(TrainError, match=r"takes bfloat16, precision is float32. Try attention=auto"):
        choose_attention("varlen", precision="float32", device=GPU)


def test_a_package_gets_the_lengths_and_whole_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for flash-attn's function for varying lengths; through transformers' loader, as the real one."""
    given = []

    def flash_attn_varlen_func(query: Any, key: Any, value: Any, **settings: Any) -> tuple[torch.Tensor]:
        given.append(settings)
        return (
            attention.document_attention(query, key, value, settings["cu_seqlens_q"], settings["softmax_scale"])[0],
        )

    loaded = (None, flash_attn_varlen_func, None, None, None), (None, None)
    for name in ("_kernel", "_takes_whole_rows"):
        monkeypatch.setattr(attention, name, getattr(attention, name))
    monkeypatch.setattr(attention, "lazy_import_flash_attention", lambda name: loaded)
    made, rows = model(), torch.randint(4, 97, (2, TOKENS), generator=torch.Generator().manual_seed(7))
    expected = [made(rows, use_cache=False, **more).logits for more in ({}, cut(documents(6), 64))]
    name, line = choose_attention("flash_attention_3", precision="bfloat16", device=GPU)
    assert (name, line) == ("varlen", "varlen by flash_attention_3")
    found = [made(rows, use_cache=False, **more).logits for more in ({}, cut(documents(6), 64))]
    torch.testing.assert_close(found, expected)
    assert given[0]["max_seqlen_k"] == TOKENS
    assert given[0]["cu_seqlens_k"].tolist() == [0, TOKENS, 2 * TOKENS]
    assert all(settings["causal"] for settings in given)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch's kernel for varying lengths runs on a GPU")
def test_the_kernel_of_a_gpu_attends_as_documents_alone_do() -> None:
    made, lengths = model().bfloat16(), documents(9)
    expected, right = step(made, lengths, 64)
    assert choose_attention("auto", precision="bfloat16", device=GPU)[0] == "varlen"
    try:
        rows = torch.randint(4, 97, (2, TOKENS), generator=torch.Generator().manual_seed(7)).cuda()
        arguments = {key: value.cuda() if torch.is_tensor(value) else value for key, value in cut(lengths, 64).items()}
        made = made.cuda()
        made.zero_grad()
        loss = made(rows, labels=rows, use_cache=False, **arguments).loss
        loss.backward()
    finally:
        choose_attention("auto", precision="float32", device=CPU)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    for parameter, gradient in zip(made.parameters(), right, strict=True):
        error = (parameter.grad.cpu().float() - gradient.float()).norm() / gradient.float().norm().clamp_min(1e-6)
        assert error < 0.1
