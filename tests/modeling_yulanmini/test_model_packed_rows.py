"""Packed rows: documents in a row see nothing of each other, with either convention for rotary positions."""

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers import modeling_flash_attention_utils as flash
from transformers.masking_utils import flash_attention_mask

# Two rows of 24 tokens with different cuts.
LENGTHS = [[7, 1, 16], [12, 12]]


@pytest.fixture
def rows():
    return torch.randint(4, 97, (2, 24), generator=torch.Generator().manual_seed(5))


def restarting() -> torch.Tensor:
    return torch.stack([torch.cat([torch.arange(length) for length in row]) for row in LENGTHS])


def document_indices() -> torch.Tensor:
    return torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in LENGTHS])


def cumulative() -> torch.Tensor:
    lengths = torch.tensor([0, *(length for row in LENGTHS for length in row)], dtype=torch.int32)
    return lengths.cumsum(0, dtype=torch.int32)


PACKINGS = {
    "position_ids restart": lambda: {"position_ids": restarting()},
    "seq_idx, positions run on": lambda: {"seq_idx": document_indices()},
    "cu_seq_lens_q, positions run on": lambda: {"cu_seq_lens_q": cumulative()},
    "all cu_seq_lens, positions restart": lambda: {
        "position_ids": restarting(),
        "cu_seq_lens_q": cumulative(),
        "cu_seq_lens_k": cumulative(),
        "max_length_q": 16,
        "max_length_k": 16,
    },
    "seq_idx, explicit positions": lambda: {"seq_idx": document_indices(), "position_ids": torch.arange(24)[None]},
}


def separate_logits(model, rows) -> torch.Tensor:
    return torch.stack(
        [
            torch.cat([model(document[None]).logits[0] for document in row.split(lengths)])
            for row, lengths in zip(rows, LENGTHS, strict=True)
        ]
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_logits_are_those_of_the_documents_alone(make_model, rows, attention, packing):
    model = make_model(attn_implementation=attention)
    packed = model(rows, **PACKINGS[packing]()).logits
    torch.testing.assert_close(packed, separate_logits(model, rows), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(packed, model(rows).logits, atol=1e-2)


@pytest.mark.slow
@torch.no_grad()  # flex attention has no backward pass on CPU
@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_logits_on_flex_attention(make_model, rows, packing):
    model = make_model(attn_implementation="flex_attention", hidden_size=64)
    eager = make_model(attn_implementation="eager", hidden_size=64)
    torch.testing.assert_close(
        model(rows, **PACKINGS[packing]()).logits, separate_logits(eager, rows), atol=2e-5, rtol=1e-4
    )


@pytest.mark.parametrize("packing", PACKINGS)
def test_training_mode_and_use_cache_keep_the_document_mask(make_model, rows, packing):
    """create_causal_mask looks for documents only where no cache exists, and config.use_cache is true by default."""
    model = make_model().train()
    assert model.config.use_cache
    expected = separate_logits(model, rows)
    packed = model(rows, labels=rows, skip_logits=False, use_cache=True, **PACKINGS[packing]()).logits
    torch.testing.assert_close(packed, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("packing", PACKINGS)
def test_gradients_of_both_conventions_agree(make_model, rows, packing):
    def gradients(**kwargs):
        model = make_model()
        model(rows, labels=rows, **kwargs).loss.backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    reference = gradients(position_ids=restarting())
    for name, gradient in gradients(**PACKINGS[packing]()).items():
        torch.testing.assert_close(gradient, reference[name], atol=1e-6, rtol=1e-3, msg=name)


def test_positions_really_run_on(make_model, rows, monkeypatch):
    """The two conventions give equal logits, so look at what RoPE is given."""
    model = make_model()
    seen = []
    rotary = model.model.rotary_emb.forward
    monkeypatch.setattr(
        model.model.rotary_emb, "forward", lambda x, position_ids: seen.append(position_ids) or rotary(x, position_ids)
    )
    model(rows, seq_idx=document_indices())
    model(rows, cu_seq_lens_q=cumulative())
    model(rows, position_ids=restarting())
    assert torch.equal(seen[0], torch.arange(24)[None])
    assert torch.equal(seen[1], torch.arange(24)[None])
    assert torch.equal(seen[2], restarting())


def varlen_attention(module, query, key, value, attention_mask, scaling, position_ids, **kwargs):
    """Flash attention's contract in transformers: no mask; cut by cu_seq_lens if all four are given, else by
    position_ids if there is one row, else not at all."""
    assert attention_mask is None
    batch, _, length, _ = query.shape
    names = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
    if all(kwargs.get(name) is not None for name in names):
        cuts = kwargs["cu_seq_lens_q"]
        assert torch.equal(kwargs["cu_seq_lens_k"], cuts)
        assert kwargs["max_length_q"] == cuts.diff().max()
    elif flash._is_packed_sequence(position_ids, batch):
        (cuts, _), _ = flash.prepare_fa_kwargs_from_position_ids(position_ids)
    else:
        cuts = torch.arange(batch + 1) * length
    flat = [x.transpose(1, 2).reshape(1, batch * length, -1, x.shape[-1]).transpose(1, 2) for x in (query, key, value)]
    documents = zip(*(x.split(cuts.diff().tolist(), dim=2) for x in flat), strict=True)
    output = [
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        for q, k, v in documents
    ]
    return torch.cat(output, dim=2).transpose(1, 2).reshape(batch, length, -1, query.shape[-1]), None


@pytest.mark.parametrize("rows_at_once", [1, 2])
@pytest.mark.parametrize("packing", PACKINGS)
def test_flash_attention_is_told_where_documents_start(make_model, rows, packing, rows_at_once):
    AttentionInterface.register("varlen_of_the_test", varlen_attention)
    AttentionMaskInterface.register("varlen_of_the_test", flash_attention_mask)
    expected = separate_logits(make_model(), rows)
    model = make_model(attn_implementation="varlen_of_the_test")
    inputs = PACKINGS[packing]()
    for name, value in inputs.items():
        if name.startswith("cu_seq_lens"):
            inputs[name] = value[: 1 + sum(len(row) for row in LENGTHS[:rows_at_once])]
        elif torch.is_tensor(value):
            inputs[name] = value[:rows_at_once]
    packed = model(rows[:rows_at_once], **inputs).logits
    expected = expected[:rows_at_once]
    torch.testing.assert_close(packed, expected, atol=2e-5, rtol=1e-4)


def test_one_document_a_row_is_plain_causal_attention(make_model, rows):
    model = make_model()
    torch.testing.assert_close(model(rows, seq_idx=torch.zeros_like(rows)).logits, model(rows).logits)
