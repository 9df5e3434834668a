"""The chunked loss: the value and gradients of the ordinary one, without its memory."""

import pytest
import torch
from plain_forward import plain_loss
from torch import nn

from modeling_yulanmini import linear_cross_entropy
from modeling_yulanmini import modeling_yulanmini as modeling

Z_LOSS = 0.02


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Seven tokens a chunk: several chunks, the last one shorter."""
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_ELEMENTS", 7 * 97)
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_MIN_TOKENS", 1)


def problem(dtype=torch.float32, tokens=40):
    generator = torch.Generator().manual_seed(0)
    hidden_states = torch.randn(tokens, 16, generator=generator).to(dtype).requires_grad_()
    head = nn.Linear(16, 97, bias=False)
    head.weight = nn.Parameter(torch.randn(97, 16, generator=generator).to(dtype))
    targets = torch.randint(0, 97, (tokens,), generator=generator)
    targets[3:8] = -100
    return hidden_states, head, targets


def ordinary(hidden_states, weight, targets):
    counted = targets != -100
    logits = hidden_states[counted] @ weight.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    z_term = Z_LOSS * logits.logsumexp(-1).square().sum()
    return nn.functional.cross_entropy(logits, targets[counted], reduction="sum") + z_term, z_term


class WrappedHead(nn.Module):
    """A head that is more than its weight, as under LoRA."""

    def __init__(self, head: nn.Linear):
        super().__init__()
        self.head = head

    @property
    def weight(self):
        return self.head.weight

    def forward(self, x):
        return self.head(x)


@pytest.mark.parametrize("wrap", [lambda head: head, WrappedHead], ids=["plain head", "wrapped head"])
def test_value_and_gradients_are_the_ordinary_ones(wrap):
    hidden_states, head, targets = problem()
    expected, expected_z = ordinary(hidden_states, head.weight, targets)
    reference = torch.autograd.grad(expected, [hidden_states, head.weight])
    loss, z_term = linear_cross_entropy(hidden_states, wrap(head), targets, z_loss=Z_LOSS)
    # A factor in front, as under gradient accumulation.
    found = torch.autograd.grad(0.25 * loss, [hidden_states, head.weight])
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-6)
    torch.testing.assert_close(z_term, expected_z.detach(), atol=1e-4, rtol=1e-6)
    for ours, theirs in zip(found, reference, strict=True):
        torch.testing.assert_close(ours, 0.25 * theirs, atol=1e-5, rtol=1e-5)


def test_gradient_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    hidden_states = torch.randn(5, 4, generator=generator)
    head = nn.Linear(4, 9, bias=False)
    targets = torch.tensor([1, -100, 3, 8, 0])
    step = 1e-2
    hidden_states.requires_grad_()
    loss, _ = linear_cross_entropy(hidden_states, head, targets, z_loss=0.3)
    loss.backward()
    with torch.no_grad():
        for index in [(0, 0), (1, 2), (4, 3)]:
            values = []
            for sign in (1, -1):
                moved = hidden_states.detach().clone()
                moved[index] += sign * step
                logits = (moved.double() @ head.weight.double().T)[targets != -100]
                cross_entropy = nn.functional.cross_entropy(logits, targets[targets != -100], reduction="sum")
                values.append(cross_entropy + 0.3 * logits.logsumexp(-1).square().sum())
            numerical = (values[0] - values[1]) / (2 * step)
            assert hidden_states.grad[index].item() == pytest.approx(numerical.item(), abs=2e-3)


def relative_error(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16 weights", "autocast"])
def test_bfloat16_is_as_exact_over_many_chunks_as_the_ordinary_loss(autocast):
    """168 chunks, each added to the weight's gradient: in a bfloat16 sum the later ones would be lost."""
    hidden_states, head, targets = problem(torch.bfloat16, tokens=168 * 7)
    # The exact values are of the same rounded inputs; so that their gradient is not rounded, in another dtype.
    exact_inputs = [tensor.detach().double().requires_grad_() for tensor in (hidden_states, head.weight)]
    exact, _ = ordinary(*exact_inputs, targets)
    exact_gradients = torch.autograd.grad(exact, exact_inputs)
    if autocast:
        head.weight = nn.Parameter(head.weight.detach().float())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, _ = ordinary(hidden_states, head.weight, targets)
        loss, _ = linear_cross_entropy(hidden_states, head, targets, z_loss=Z_LOSS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=1e-3, rtol=1e-5)
    found = torch.autograd.grad(loss, [hidden_states, head.weight])
    reference = torch.autograd.grad(expected, [hidden_states, head.weight])
    for ours, theirs, right in zip(found, reference, exact_gradients, strict=True):
        assert ours.dtype == theirs.dtype
        assert relative_error(ours, right) < 1.5 * relative_error(theirs, right)


def test_a_second_derivative_is_an_error_not_a_wrong_number(make_model, input_ids):
    model = make_model(attn_implementation="eager").train()
    weight = model.model.layers[0].mlp.up_proj.weight
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(model(input_ids, labels=input_ids).loss, weight, create_graph=True)
    # The way that the message names.
    loss = model.loss_function(model(input_ids).logits, input_ids)
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), weight)[0].abs().max() > 0


@pytest.mark.parametrize("frozen", ["head", "body"])
def test_what_is_frozen_gets_no_gradient(frozen):
    hidden_states, head, targets = problem()
    if frozen == "head":
        head.weight.requires_grad_(False)
    else:
        hidden_states = hidden_states.detach()
    loss, _ = linear_cross_entropy(hidden_states, head, targets, z_loss=Z_LOSS)
    loss.backward()
    assert (hidden_states.grad is None) == (frozen == "body")
    assert (head.weight.grad is None) == (frozen == "head")


def test_without_gradients_none_are_kept():
    hidden_states, head, targets = problem()
    with torch.no_grad():
        loss, _ = linear_cross_entropy(hidden_states, head, targets, z_loss=Z_LOSS)
    assert loss.grad_fn is None
    torch.testing.assert_close(loss, ordinary(hidden_states, head.weight, targets)[0].detach(), atol=1e-4, rtol=1e-6)


def test_no_target_that_counts_gives_zero_not_nan(make_model, input_ids):
    model = make_model().train()
    output = model(input_ids, labels=torch.full_like(input_ids, -100))
    output.loss.backward()
    assert output.loss.item() == 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.parameters())


def test_large_logits_do_not_overflow():
    hidden_states, head, targets = problem()
    loss, _ = linear_cross_entropy(hidden_states * 1000, head, targets)
    expected = nn.functional.cross_entropy(head(hidden_states * 1000), targets, reduction="sum", ignore_index=-100)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-2)


def test_loss_is_the_mean_over_counted_labels(make_model, input_ids):
    model = make_model(z_loss=0.01)
    labels = input_ids.clone()
    labels[0] = -100
    labels[1, 5:9] = -100
    output = model(input_ids, labels=labels)
    torch.testing.assert_close(output.loss, plain_loss(output.logits, labels, 0.01))


@pytest.mark.parametrize("as_tensor", [True, False])
def test_num_items_in_batch_adds_up_over_micro_batches(make_model, input_ids, as_tensor):
    """Three micro-batches divided by the global count give the loss and gradients of one batch."""
    whole, parts = make_model(), make_model()
    labels = input_ids.clone()
    labels[0, :13] = -100
    output = whole(input_ids, labels=labels)
    output.loss.backward()
    count = (labels[:, 1:] != -100).sum()
    loss = z_loss = 0.0
    for row, row_labels in zip(input_ids, labels, strict=True):
        part = parts(row[None], labels=row_labels[None], num_items_in_batch=count if as_tensor else count.item())
        part.loss.backward()
        loss, z_loss = loss + part.loss.detach(), z_loss + part.z_loss
    torch.testing.assert_close(loss, output.loss.detach())
    torch.testing.assert_close(z_loss, output.z_loss)
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_shift_labels_replace_labels(make_model, input_ids):
    model = make_model()
    shifted = torch.nn.functional.pad(input_ids[:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(
        model(input_ids, shift_labels=shifted).loss, model(input_ids, labels=input_ids).loss, rtol=0, atol=0
    )


def test_loss_function_on_logits_is_the_same_loss(make_model, input_ids):
    """For code that calls model.loss_function(logits=...) itself, as sequence-parallel trainers do."""
    model = make_model(z_loss=0.01)
    output = model(input_ids, labels=input_ids)
    torch.testing.assert_close(model.loss_function(logits=output.logits, labels=input_ids, vocab_size=97), output.loss)
    shifted = torch.nn.functional.pad(input_ids[:, 1:], (0, 1), value=-100)
    summed = model.loss_function(output.logits, shift_labels=shifted, num_items_in_batch=torch.tensor(10))
    torch.testing.assert_close(summed, output.loss * 60 / 10)


def test_logits_are_left_out_in_training_only(make_model, input_ids):
    model = make_model()
    assert model(input_ids, labels=input_ids).logits is not None
    assert model(input_ids).logits is not None
    model.train()
    assert model(input_ids, labels=input_ids).logits is None
    assert model(input_ids).logits is not None
    assert model(input_ids, labels=input_ids, skip_logits=False).logits.shape == (3, 21, 97)
    model.eval()
    assert model(input_ids, labels=input_ids, skip_logits=True).logits is None


def test_peak_memory_is_far_below_that_of_all_logits(monkeypatch):
    """Counts what autograd and the chunks hold at once, by the largest tensor alive in the loss."""
    monkeypatch.setattr(modeling, "LOGITS_CHUNK_ELEMENTS", 64 * 1000)
    hidden_states = torch.randn(1024, 8, requires_grad=True)
    head = nn.Linear(8, 1000, bias=False)
    targets = torch.randint(0, 1000, (1024,))
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            output = func(*args, **(kwargs or {}))
            for tensor in output if isinstance(output, (tuple, list)) else [output]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.untyped_storage().nbytes())
            return output

    with Watch():
        linear_cross_entropy(hidden_states, head, targets, z_loss=Z_LOSS)[0].backward()
    assert largest <= 64 * 1000 * 4


def test_autocast_runs_the_head_in_its_dtype(make_model, input_ids):
    model = make_model().train()
    full = model(input_ids, labels=input_ids).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(input_ids, labels=input_ids).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(full.item(), rel=0.02)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="adds bfloat16 products in fp32 within the product")
def test_the_loss_on_a_gpu_is_as_exact_as_on_a_cpu(monkeypatch):
    monkeypatch.setattr(modeling, "ACCELERATOR_LOGITS_CHUNK_ELEMENTS", 7 * 97)
    hidden_states, head, targets = problem(torch.bfloat16, tokens=168 * 7)
    exact_inputs = [tensor.detach().double().requires_grad_() for tensor in (hidden_states, head.weight)]
    exact = torch.autograd.grad(ordinary(*exact_inputs, targets)[0], exact_inputs)
    on_cpu = torch.autograd.grad(
        linear_cross_entropy(hidden_states, head, targets, z_loss=Z_LOSS)[0], [hidden_states, head.weight]
    )
    hidden_states, head, targets = hidden_states.detach().cuda().requires_grad_(), head.cuda(), targets.cuda()
    loss, _ = linear_cross_entropy(hidden_states, head, targets, z_loss=Z_LOSS)
    on_gpu = torch.autograd.grad(loss, [hidden_states, head.weight])
    for gpu, cpu, right in zip(on_gpu, on_cpu, exact, strict=True):
        assert relative_error(gpu.cpu(), right) < 1.5 * relative_error(cpu, right)
