"""How each decoder layer is run: which activations are computed again in the backward pass, and torch.compile.

Only `layer.forward` is replaced. Parameter names, FSDP's hooks and the monitors' hooks stay where they are.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch._functorch import config as functorch_config
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from modeling_yulanmini.modeling_yulanmini import ChunkedLinearCrossEntropy, chunk_terms
from train.config import RecomputationSettings
from train.curriculum.plan import Phase
from train.errors import TrainError
from train.model_setup import attention

_aten = torch.ops.aten
# What selective recomputation keeps: outputs that cost a matrix product or an attention.
KEPT_OPERATIONS = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.torch_attn._varlen_attn.default,
    attention.document_attention._opoverload,
}


def recomputed_layers(settings: RecomputationSettings, layers: int) -> list[bool]:
    """For each layer whether (some of) its activations are computed again.

    `every` is the published rule: all but those with index % k == 0 (k = 7 by default, 11 and 12 late in the stable
    stage, 56 in the 28K stage; facts.md 3.3).
    """
    if settings.mode == "every":
        return [index % settings.k != 0 for index in range(layers)]
    return [settings.mode in ("full", "selective")] * layers


def check_compiler(device: torch.device) -> None:
    """TrainError where torch.compile cannot work: on a CPU it needs a C++ compiler ($CXX or g++)."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise TrainError(
            f"compile: torch.compile needs a C++ compiler on a CPU, and there is no '{compiler}'. "
            "Install one (or name it in $CXX), or set compile=false."
        )


def check_budget(phases: Sequence[Phase], *, compile: bool) -> None:
    """TrainError where a phase leaves recomputation to torch.compile, which is off."""
    for phase in phases:
        if phase.recomputation.mode == "budget" and not compile:
            raise TrainError(
                f"phase {phase.name}: recomputation.mode is budget, which torch.compile carries out, but compile is "
                "false. Set compile=true, or mode to every, full or selective."
            )


def set_memory_budget(budget: float) -> None:
    """For what is compiled from now on; graphs of another budget are forgotten."""
    if functorch_config.activation_memory_budget != budget:
        torch._dynamo.reset()
        functorch_config.activation_memory_budget = budget


def set_layer_execution(model: Any, settings: RecomputationSettings, *, compile: bool) -> None:
    """Give every decoder layer the forward function that the settings ask for. Evaluation runs it plain."""
    set_memory_budget(settings.budget if settings.mode == "budget" else 1.0)
    layers = model.model.layers
    for layer, recomputed in zip(layers, recomputed_layers(settings, len(layers)), strict=True):
        plain = partial(type(layer).forward, layer)
        training = plain
        if recomputed:
            contexts = _selective_contexts if settings.mode == "selective" else None
            training = partial(_recomputing, plain, contexts)
        # Rows of a phase all have one shape; a longer context is compiled once more.
        compiled = torch.compile(training, dynamic=False) if compile else training
        inner = [module for module in layer.modules() if module is not layer]
        layer.forward = plain if compiled is plain else partial(_by_mode, layer, inner, plain, training, compiled)


def set_loss_execution(*, compile: bool) -> None:
    """One pass over each chunk of logits where layers are compiled, in place of one for every operation."""
    terms = torch.compile(chunk_terms, dynamic=False) if compile else chunk_terms
    ChunkedLinearCrossEntropy.chunk_terms = staticmethod(terms)


def _by_mode(
    layer: Any,
    inner: list[Any],
    plain: Callable[..., Any],
    training: Callable[..., Any],
    compiled: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return plain(*args, **kwargs)
    # A graph is compiled without hooks and would pass over those that a monitor puts inside the layer for a step.
    if any(module._forward_hooks or module._forward_pre_hooks for module in inner):
        return training(*args, **kwargs)
    return compiled(*args, **kwargs)


def _recomputing(plain: Callable[..., Any], contexts: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> Any:
    # No dropout in this model: there is no random state to bring back.
    extra = {"context_fn": contexts} if contexts is not None else {}
    return checkpoint(plain, *args, use_reentrant=False, preserve_rng_state=False, **extra, **kwargs)


def _selective_contexts() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT_OPERATIONS else CheckpointPolicy.PREFER_RECOMPUTE
