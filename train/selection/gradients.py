"""The gradient of every dialogue of a batch by one backward pass, as Adam would apply it, projected to few numbers.

LESS takes one backward pass a dialogue and multiplies its gradient by a dense random matrix. Here the gradients of a
whole batch come from what the adapters' layers saw and were handed back (for a linear layer, their outer products
summed over a dialogue's tokens), and the projection is a count sketch: each coordinate is added, with a random sign,
to one of `dimension` sums. Dot products are kept in expectation as by a dense matrix, for one addition a coordinate.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from data_recipes.ordering import mix64, seed_of
from modeling_yulanmini import linear_cross_entropy


class AdapterGradients:
    """Gradients of each row of a batch for the adapters of a PEFT model.

    Within `watching`, the layers of the adapters keep what goes in and what comes back; after a backward pass of the
    sum of the rows' losses, `of_each_row` gives float32 [rows, *shape] for each parameter, in `names`' order.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = {
            f"{name}.weight": module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module.weight.requires_grad
        }
        self._inputs: dict[str, torch.Tensor] = {}
        self._back: dict[str, torch.Tensor] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self.layers)

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles = [module.register_forward_hook(self._keeper(name)) for name, module in self.layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keeper(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self._inputs[name] = inputs[0].detach()
            output.register_hook(lambda gradient: self._back.__setitem__(name, gradient.detach()))

        return keep

    def of_each_row(self) -> Iterator[tuple[str, torch.Tensor]]:
        """One parameter at a time, which is then forgotten: all of them at once would not fit."""
        for name in self.names:
            inputs, back = self._inputs.pop(name).float(), self._back.pop(name).float()
            yield name, torch.einsum("rto,rti->roi", back, inputs)


def summed_mean_losses(model: Any, rows: dict[str, torch.Tensor]) -> torch.Tensor:
    """A number whose gradient is the sum over the rows of each row's mean loss over its trained tokens.

    `rows`: input_ids, attention_mask and labels, int64 [rows, tokens]; model: a causal LM inside PEFT. Its value is not
    that sum: only the gradient is used.
    """
    causal = model.get_base_model()
    hidden_states = causal.base_model(
        input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], use_cache=False
    ).last_hidden_state[:, :-1]
    trained = rows["labels"][:, 1:] != -100
    weights = trained / trained.sum(dim=1, keepdim=True).clamp(min=1)
    hidden_states, weights = hidden_states[trained], weights[trained].unsqueeze(1).to(hidden_states.dtype)
    # The loss of a token is what it was, its gradient is weighted by its dialogue's length.
    hidden_states = weights * hidden_states + (1 - weights) * hidden_states.detach()
    return linear_cross_entropy(hidden_states, causal.get_output_embeddings(), rows["labels"][:, 1:][trained])[0]


class Moments:
    """Adam's state of the adapters at a checkpoint: `as_applied` is the update that it would make of a gradient.

    m and v after one more step with this gradient, both corrected for their bias (LESS, section 3.1); the learning rate
    is left out.
    """

    def __init__(
        self, mean: dict[str, torch.Tensor], square: dict[str, torch.Tensor], step: int, betas: Any, eps: float
    ) -> None:
        self.mean, self.square, self.step, self.betas, self.eps = mean, square, step, betas, eps

    def as_applied(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        """float32 [rows, *shape] for a gradient of that shape."""
        first, second = self.betas
        mean = (first * self.mean[name] + (1 - first) * gradient) / (1 - first ** (self.step + 1))
        square = (second * self.square[name] + (1 - second) * gradient.square()) / (1 - second ** (self.step + 1))
        return mean / (square.sqrt() + self.eps)


class Sketch:
    """A random projection of all parameters to `dimension` numbers; the same for the same seed, wherever it runs."""

    def __init__(self, sizes: dict[str, int], dimension: int, *, seed: int, device: torch.device | str = "cpu") -> None:
        self.dimension = dimension
        self.places: dict[str, torch.Tensor] = {}
        self.signs: dict[str, torch.Tensor] = {}
        for name in sorted(sizes):
            mixed = mix64(np.arange(sizes[name], dtype=np.uint64), seed_of("sketch", seed, name))
            signs = (mixed & np.uint64(1)).astype(np.int8) * 2 - 1
            places = ((mixed >> np.uint64(1)) % np.uint64(dimension)).astype(np.int32)
            self.places[name] = torch.from_numpy(places).to(device)
            self.signs[name] = torch.from_numpy(signs).to(device)

    def add(self, sums: torch.Tensor, name: str, values: torch.Tensor) -> None:
        """Add a parameter's values, [rows, *shape], to the sketches of the rows, float32 [rows, dimension]."""
        sums.index_add_(1, self.places[name], values.flatten(1) * self.signs[name])


def sketched_gradients(
    model: Any, gradients: AdapterGradients, sketch: Sketch, rows: dict[str, torch.Tensor], moments: Moments | None
) -> torch.Tensor:
    """The sketch of each row's gradient (with `moments`, of the update that Adam would make of it), not normalised:
    float32 [rows, dimension]."""
    with gradients.watching():
        summed_mean_losses(model, rows).backward()
    model.zero_grad(set_to_none=True)
    sums = torch.zeros(len(rows["input_ids"]), sketch.dimension, device=rows["input_ids"].device)
    for name, gradient in gradients.of_each_row():
        sketch.add(sums, name, gradient if moments is None else moments.as_applied(name, gradient))
    return sums
