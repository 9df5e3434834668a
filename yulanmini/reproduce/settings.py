"""Scales of the miniature: how large each stage is. The numbers are in `scales.yaml`, with their reasons."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from yulanmini.errors import RunError

SCALES_FILE = Path(__file__).with_name("scales.yaml")
ALL_PHASES = 27


class Settings(BaseModel):
    """One scale. Training configs are named as for `yulanmini train`; `*_overrides` change keys of theirs.

    `pair_problems`: problems of each kind that the tuned model is asked for pairs, by level, `pair_samples` times each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus_bytes: int
    least_corpus_bytes: int
    dialogues: int
    vocab_size: int
    tokens_per_phase: int
    context_lengths: dict[int, int]
    pretrain_config: str
    pretrain_overrides: dict[str, Any] = {}
    sft_config: str
    sft_max_length: int
    sft_overrides: dict[str, Any] = {}
    pair_problems: dict[int, int]
    pair_samples: int
    dpo_config: str
    dpo_overrides: dict[str, Any] = {}
    on_policy_config: str
    on_policy_overrides: dict[str, Any] = {}
    problems_per_kind: int
    free_bytes: int


def load_settings(scale: str) -> Settings:
    """The named scale of `scales.yaml`; RunError names the known ones."""
    scales = yaml.safe_load(SCALES_FILE.read_text())
    if scale not in scales:
        raise RunError(f"no scale '{scale}'. Known: {', '.join(scales)}.")
    return Settings.model_validate(scales[scale])


def parse_phases(text: str) -> list[int]:
    """`1-27`, `1-5` or `1`: a curriculum starts at phase 1 and has no gaps, so only its end can be chosen."""
    first, _, last = text.partition("-")
    try:
        start, end = int(first), int(last or first)
    except ValueError:
        raise RunError(f"--phases {text!r}: expected a range such as 1-27.") from None
    if start != 1 or not 1 <= end <= ALL_PHASES:
        raise RunError(f"--phases {text!r}: expected 1-N with N from 1 to {ALL_PHASES}; training starts at phase 1.")
    return list(range(1, end + 1))
