"""Attention of packed rows: documents are cut by their cumulative lengths, never by a mask of context x context.

`attention: varlen` is one function in transformers' registry for every kernel that takes document lengths: torch's own
FlashAttention on a GPU (FlashAttention 3 where its package is installed), an installed flash-attn package, and on a CPU
one document after the other. As it wants no mask, transformers makes none, and looks for no documents on the host.
"""

import importlib.util
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch.nn.attention import activate_flash_attention_impl
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_flash_attention_utils import lazy_import_flash_attention

from train.curriculum.plan import Phase
from train.errors import TrainError

VARLEN = "varlen"
LARGEST_MASK = 2**28  # bytes; at a context of 28,672 a mask has 822 MB a row
HOPPER = 9
_aten = torch.ops.aten


def choose_attention(wanted: str, *, precision: str, device: torch.device) -> tuple[str, str]:
    """The name that transformers knows the attention by, and a line that says what runs; TrainError where it cannot.

    `auto` is `varlen` where that can be, on a CPU and in bfloat16 (or fp8) on GPUs from Ampere on, else `sdpa`.
    Nothing is fetched: only `flash_attention_2` and the like, asked for by name, may take transformers' built kernels.
    """
    global _kernel, _takes_whole_rows
    _takes_whole_rows = False
    if device.type != "cuda":
        _kernel = _on_host
        if wanted in ("auto", VARLEN):
            return VARLEN, "varlen: one document after the other"
        return wanted, wanted
    if wanted.startswith("flash_attention_"):
        try:
            functions, _ = lazy_import_flash_attention(wanted)
        except (ImportError, ValueError) as error:
            raise TrainError(f"attention: {wanted} cannot be used here ({error}). Try attention=auto.") from error
        _kernel, _takes_whole_rows = _from_package(functions[1]), True
        return VARLEN, f"varlen by {wanted}"
    major = torch.cuda.get_device_capability(device)[0]
    reason = "it takes bfloat16, precision is float32" if precision == "float32" else "it needs Ampere or newer"
    can_cut = precision != "float32" and major >= 8
    if wanted == VARLEN and not can_cut:
        raise TrainError(f"attention: varlen cannot be used here: {reason}. Try attention=auto.")
    if wanted not in ("auto", VARLEN) or not can_cut:
        return ("sdpa", f"sdpa, since varlen cannot be used: {reason}") if wanted == "auto" else (wanted, wanted)
    _kernel = _of_torch
    if major == HOPPER and importlib.util.find_spec("flash_attn_interface") is not None:
        activate_flash_attention_impl("FA3")
        return VARLEN, "varlen: FlashAttention 3 of the installed flash_attn_interface, called by torch"
    return VARLEN, "varlen: torch's own FlashAttention"


def check_masks(phases: Sequence[Phase], attention: str) -> None:
    """TrainError where an attention that needs a mask would make one that no memory is meant for."""
    for phase in phases:
        size = phase.context_length**2
        if attention in ("sdpa", "eager") and phase.document_mask and size > LARGEST_MASK:
            raise TrainError(
                f"phase {phase.name}: attention {attention} keeps documents apart by a mask of {size / 1e6:,.0f} MB a "
                f"row of {phase.context_length:,} tokens. Set attention to auto (varlen), which needs none, or to "
                "flex_attention."
            )


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within documents, query [rows, heads, tokens, head_dim]; without lengths, within rows.

    `cu_seq_lens_q`: int32, where documents of the flattened rows end, from 0 on; any number of empty ones at the end.
    """
    rows, heads, tokens, head_dim = query.shape
    if attention_mask is not None or key.shape[2] != tokens or dropout:
        raise ValueError("attention 'varlen' is for training: it takes no mask, no cache and no dropout.")
    scale = head_dim**-0.5 if scaling is None else scaling
    if cu_seq_lens_q is None or max_length_q is None:
        if not _takes_whole_rows:
            return sdpa_attention_forward(module, query, key, value, None, scaling=scale)
        max_length_q = tokens
        cu_seq_lens_q = torch.arange(0, (rows + 1) * tokens, tokens, dtype=torch.int32, device=query.device)
    flat = [states.transpose(1, 2).reshape(rows * tokens, -1, head_dim) for states in (query, key, value)]
    return _kernel(*flat, cu_seq_lens_q, max_length_q, scale).view(rows, tokens, heads, head_dim), None


# No mask function is registered under this name: transformers then makes no mask.
AttentionInterface.register(VARLEN, varlen_attention)


def _of_torch(query: Any, key: Any, value: Any, ends: torch.Tensor, longest: int, scale: float) -> torch.Tensor:
    causal = (-1, 0)
    return varlen_attn(
        query, key, value, ends, ends, longest, longest, scale=scale, window_size=causal, enable_gqa=True
    )


def _from_package(function: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """A flash-attn package's function for varying lengths, as `_kernel` is called."""

    def kernel(query: Any, key: Any, value: Any, ends: torch.Tensor, longest: int, scale: float) -> torch.Tensor:
        lengths = {"cu_seqlens_q": ends, "cu_seqlens_k": ends, "max_seqlen_q": longest, "max_seqlen_k": longest}
        output = function(query, key, value, softmax_scale=scale, causal=True, **lengths)
        return output[0] if isinstance(output, tuple) else output

    return kernel


@torch.library.custom_op("yulanmini::document_attention", mutates_args=())
def document_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """On a CPU: output and log-sum-exp, float32 [tokens, heads], of query [tokens, heads, head_dim].

    One operation for torch.compile, as torch's on a GPU is: lengths of documents make no graph of their own.
    """
    output, sums = _outputs(query)
    for part, whole in _documents(ends):
        of_part, lse = _aten._scaled_dot_product_flash_attention_for_cpu(
            *(whole(states).transpose(1, 2) for states in (query, key, value)), 0.0, True, scale=scale
        )
        output[part] = of_part.transpose(1, 2).flatten(0, 1)
        sums[part] = lse.transpose(1, 2).flatten(0, 1)
    return output, sums


@document_attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, scale: float) -> Any:
    return _outputs(query)


def _outputs(query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    exact = torch.promote_types(query.dtype, torch.float32)
    return torch.empty_like(query), query.new_empty(query.shape[:2], dtype=exact)


@torch.library.custom_op("yulanmini::document_attention_backward", mutates_args=())
def document_attention_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    sums: torch.Tensor,
    ends: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of query, key and value."""
    gradients = (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
    grad = grad.contiguous()
    for part, whole in _documents(ends):
        of_part = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *(whole(states).transpose(1, 2) for states in (grad, query, key, value, output, sums)),
            0.0,
            True,
            scale=scale,
        )
        for total, found in zip(gradients, of_part, strict=True):
            total[part] = found.transpose(1, 2).flatten(0, 1)
    return gradients


@document_attention_backward.register_fake
def _(grad: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> Any:
    return tuple(torch.empty_like(states) for states in (query, key, value))


def _documents(ends: torch.Tensor) -> Any:
    """Of each run of documents of one length: its slice of the tokens, and what gives it a batch's dimensions."""
    start = 0
    for length, run in groupby(ends.diff().tolist()):
        stop = start + length * len(list(run))
        if length:
            part = slice(start, stop)
            yield part, lambda states, part=part, length=length: states[part].unflatten(0, (-1, length))
        start = stop


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, grad: torch.Tensor, _grad_sums: torch.Tensor) -> tuple[Any, ...]:
    query, key, value, ends, output, sums = ctx.saved_tensors
    return (*document_attention_backward(grad, query, key, value, output, sums, ends, ctx.scale), None, None)


document_attention.register_autograd(_backward, setup_context=_keep_for_backward)


def _on_host(query: Any, key: Any, value: Any, ends: torch.Tensor, longest: int, scale: float) -> torch.Tensor:
    return document_attention(query, key, value, ends, scale)[0]


# What `varlen_attention` calls, and whether for rows that are not cut too; `choose_attention` sets it for the process.
_kernel: Callable[..., torch.Tensor] = _on_host
_takes_whole_rows = False
