"""Pretraining text among the dialogues, so that tuning costs less of what the base model knows.

Documents of built phases, evenly over the phases named and cut at `max_length`: no template, every token trained, and
under packing kept apart from their neighbours as dialogues are.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_recipes.manifest import verify_files
from data_recipes.recipes.phases import phase_folder
from data_recipes.rows.reader import PackedRows
from data_recipes.tokens.tokenizer import load_tokenizer as load_ids
from train.config import phase_names
from train.errors import TrainError
from train.tuning.config import PretrainingSettings


def open_phases(settings: PretrainingSettings, tokenizer: Path) -> list[PackedRows]:
    """The phases that text is taken from; TrainError for one that is missing, damaged or of another tokenizer."""
    phases = []
    for name in phase_names(settings.phases):
        folder = settings.dir / phase_folder(name)
        if not folder.is_dir():
            present = sorted(path.parent.name for path in settings.dir.glob("*/manifest.json"))
            raise TrainError(f"pretraining.phases: no folder {folder}. Present: {', '.join(present) or 'none'}.")
        phase = PackedRows(folder)
        if problems := verify_files(folder, content=False, manifest=phase.manifest):
            raise TrainError(f"pretraining: {problems[0]}. Build {folder} again (`yulanmini data build`).")
        if phase.manifest["tokenizer"]["fingerprint"] != load_ids(tokenizer).fingerprint:
            raise TrainError(
                f"pretraining: {folder} was built with another tokenizer than {tokenizer}. Name phases that were built "
                "with that one."
            )
        phases.append(phase)
    return phases


def pretraining_rows(phases: list[PackedRows], *, tokens: int, max_length: int) -> Iterator[np.ndarray]:
    """Pieces of documents, int32 [2 to max_length], of at least `tokens` tokens in all and hardly more.

    Where the phases hold less it is all of them, which is said: no text is given twice.
    """
    held = sum(phase.num_rows * phase.context_length for phase in phases)
    if tokens > held:
        tqdm.write(
            f"pretraining.share asks for {tokens:,} tokens, the phases named hold {held:,}: all are taken. Name more "
            "of them (pretraining.phases), or lower the share.",
            file=sys.stderr,
        )
        tokens = held
    for phase in phases:
        # Rows of a phase are in an order of which every stretch holds the mixture; so do rows taken evenly.
        wanted = np.arange(phase.num_rows + 1, dtype=np.int64) * tokens // held
        for row in np.flatnonzero(np.diff(wanted)).tolist():
            yield from _pieces(phase, row, max_length)


def _pieces(phase: PackedRows, row: int, max_length: int) -> Iterator[np.ndarray]:
    batch = phase.rows(row, row + 1)
    ids = batch.input_ids[0, : phase.context_length - int(batch.padding[0])]
    starts = np.append(0, np.cumsum(batch.doc_lengths[0]))
    for start, end in zip(starts[:-1], np.minimum(starts[1:], len(ids)), strict=True):
        for first in range(start, end, max_length):
            piece = ids[first : min(first + max_length, end)]
            if len(piece) > 1:  # the first token has no predecessor to be predicted from
                yield piece
