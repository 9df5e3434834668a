"""The four columns of Table 3 of the report: how scales, initial variance and learning rates follow width and depth.

A column is data (`COLUMNS`); `Parametrization` turns it into numbers for one model shape. m_width = hidden_size /
base_width. YuLan-Mini's column keeps W~ flat and holds the width and depth factors in the learnable alphas (WeSaR).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import nn

from data_recipes.errors import nearest
from train.config import ParametrizationSettings
from train.errors import TrainError
from train.model_setup.parameter_groups import matrix_kind


@dataclass(frozen=True)
class Column:
    """One column of Table 3. Variances are factors on initializer_range squared; `wesar` puts them in the alphas."""

    embedding_scale: float
    attention_scale: Literal["1/sqrt(d_head)", "1/d_head"]
    residual_scale: Literal["1", "1.4/sqrt(n_layers)"]
    matrix_lr: Literal["1", "1/m_width", "1/sqrt(m_width)"]
    input_variance: Literal["1", "1/m_width"]
    output_variance: Literal["1/(2*n_layers)", "1/m_width", "1/(2*m_width*n_layers)"]
    logits_scale: Literal["1", "1/m_width"]
    wesar: bool


COLUMNS: Mapping[str, Column] = {
    "standard": Column(1.0, "1/sqrt(d_head)", "1", "1", "1", "1/(2*n_layers)", "1", wesar=False),
    "minicpm": Column(
        12.0, "1/sqrt(d_head)", "1.4/sqrt(n_layers)", "1/m_width", "1/m_width", "1/m_width", "1/m_width", wesar=False
    ),
    "cerebras-gpt": Column(10.0, "1/d_head", "1", "1/m_width", "1/m_width", "1/m_width", "1/m_width", wesar=False),
    "yulanmini": Column(
        10.0,
        "1/sqrt(d_head)",
        "1.4/sqrt(n_layers)",
        "1/m_width",
        "1/m_width",
        "1/(2*m_width*n_layers)",
        "1",
        wesar=True,
    ),
}


@dataclass(frozen=True)
class Parametrization:
    """A column applied to a model of `hidden_size` and `num_layers`."""

    column: Column
    base_width: int
    hidden_size: int
    num_layers: int

    @property
    def m_width(self) -> float:
        return self.hidden_size / self.base_width

    def _value(self, rule: str) -> float:
        """A rule of the table as a number for this shape."""
        return {
            "1": 1.0,
            "1/m_width": 1 / self.m_width,
            "1/sqrt(m_width)": 1 / math.sqrt(self.m_width),
            "1/(2*n_layers)": 1 / (2 * self.num_layers),
            "1/(2*m_width*n_layers)": 1 / (2 * self.m_width * self.num_layers),
            "1.4/sqrt(n_layers)": 1.4 / math.sqrt(self.num_layers),
        }[rule]

    def lr_factor(self, name: str) -> float:
        """Factor on the base rate for the parameter `name`: the table's rule for matrices, 1 for all others.

        So did the trainer as first released (facts.md 3.1), but for an untied head, which it counted with the matrices.
        """
        return self._value(self.column.matrix_lr) if matrix_kind(name) else 1.0

    def model_settings(self, head_dim: int) -> dict[str, Any]:
        """Keys of the model's config that this column decides."""
        settings: dict[str, Any] = {
            "scale_emb": self.column.embedding_scale,
            "hidden_states_shrink": self._value(self.column.residual_scale),
            "dim_model_base_lr": self.base_width,
            "dim_model_base_attn": head_dim if self.column.attention_scale == "1/sqrt(d_head)" else 1,
            "dim_model_base_logits": self.hidden_size if self.column.logits_scale == "1" else self.base_width,
            "wesar_weights": self.column.wesar,
            "use_norm_alpha": self.column.wesar,
            "tie_word_embeddings": True,
            # Every matrix starts at initializer_range; `initialise` and the alphas do the rest.
            "model_reproduce": "cerebras" if self.column.wesar else "transformer",
            "dim_model_base_init": None,
            "init_scale_o": 1,
        }
        if self.column.wesar:
            inward = math.sqrt(self._value(self.column.input_variance))
            outward = math.sqrt(self._value(self.column.output_variance))
            settings |= {f"{name}_alpha": inward for name in ("q_proj", "k_proj", "v_proj", "gate_up_proj")}
            settings |= {f"{name}_alpha": outward for name in ("o_proj", "down_proj")}
        return settings

    @torch.no_grad()
    def initialise(self, model: nn.Module) -> None:
        """Bring freshly drawn matrices (std initializer_range) to the column's variance; alphas already have it."""
        if self.column.wesar:
            return
        for name, parameter in model.named_parameters():
            kind = matrix_kind(name)
            if kind:
                rule = self.column.input_variance if kind == "input" else self.column.output_variance
                parameter.mul_(math.sqrt(self._value(rule)))


def make_parametrization(settings: ParametrizationSettings, *, hidden_size: int, num_layers: int) -> Parametrization:
    """The column that the config names, with its overrides; TrainError for a property that is not one."""
    column = COLUMNS[settings.name]
    known = [field.name for field in fields(Column)]
    for key in settings.overrides:
        if key not in known:
            raise TrainError(f"parametrization.overrides: unknown key '{key}'.{nearest(key, known)}")
    column = replace(column, **settings.overrides)
    return Parametrization(column, settings.base_width, hidden_size, num_layers)
