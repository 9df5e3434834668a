"""The rows of a step, as this rank's micro-batches. The next step's rows are read while the current one computes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from data_recipes.reader import PackedRows
from train.curriculum import Curriculum, Phase, StepPlan
from train.errors import TrainError
from train.world import World

IGNORED = -100


@dataclass(frozen=True)
class MicroBatch:
    """`input_ids` and `labels` int64 [rows, context]; `position_ids` int64 of the same shape with a document mask.

    Labels are not shifted (the model does that); -100 where nothing is to be predicted. `subset_ids` int64 [rows].
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor | None
    subset_ids: torch.Tensor
    row_start: int


@dataclass(frozen=True)
class StepRows:
    """This rank's part of a step; `targets` is its number of predicted tokens."""

    micro_batches: list[MicroBatch]
    targets: int


def check_divisible(curriculum: Curriculum, ranks: int) -> None:
    """TrainError where a phase's rows per step cannot be shared by the ranks in micro-batches of the asked size."""
    for phase in curriculum.phases:
        if phase.rows_per_step % ranks:
            fitting = [count for count in range(1, phase.rows_per_step + 1) if phase.rows_per_step % count == 0]
            raise TrainError(
                f"phase {phase.name}: {phase.rows_per_step} rows a step cannot be shared by {ranks} ranks. "
                f"Ranks that fit: {', '.join(map(str, fitting[:40]))}. Or change tokens_per_step."
            )
        share = phase.rows_per_step // ranks
        if phase.micro_batch_rows and share % phase.micro_batch_rows:
            fitting = [count for count in range(1, share + 1) if share % count == 0]
            raise TrainError(
                f"phase {phase.name}: micro_batch_rows {phase.micro_batch_rows} does not divide the {share} rows "
                f"of a rank. Sizes that fit: {', '.join(map(str, fitting[:40]))}."
            )


class StepReader:
    """Reads any step's rows of the curriculum, one step ahead."""

    def __init__(self, curriculum: Curriculum, world: World, *, vocab_size: int) -> None:
        self._curriculum = curriculum
        self._world = world
        self._vocab_size = vocab_size
        self._readers: dict[str, PackedRows] = {}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows")
        self._ahead: tuple[int, Future[StepRows]] | None = None

    def rows_of(self, phase: Phase) -> PackedRows:
        """The phase's folder, opened once."""
        if phase.name not in self._readers:
            assert phase.folder is not None, "a phase that is only declared cannot be read"
            self._readers[phase.name] = PackedRows(phase.folder)
        return self._readers[phase.name]

    def get(self, plan: StepPlan, following: int | None) -> StepRows:
        """This rank's rows of `plan`'s step; begins to read step `following` in the background."""
        if self._ahead is not None and self._ahead[0] == plan.step:
            rows = self._ahead[1].result()
        else:
            rows = self.read(plan)
        self._ahead = None
        if following is not None:
            self._ahead = (following, self._pool.submit(self.read, self._curriculum.at(following)))
        return rows

    def read(self, plan: StepPlan) -> StepRows:
        """This rank's contiguous share of the step's rows, in micro-batches."""
        share = (plan.row_stop - plan.row_start) // self._world.size
        first = plan.row_start + share * self._world.rank
        size = plan.phase.micro_batch_rows or share
        micro_batches = [self.read_rows(plan.phase, start, start + size) for start in range(first, first + share, size)]
        targets = sum(int((batch.labels[:, 1:] != IGNORED).sum()) for batch in micro_batches)
        return StepRows(micro_batches, targets)

    def read_rows(self, phase: Phase, start: int, stop: int) -> MicroBatch:
        """Rows [start, stop) of a phase on the CPU; TrainError for a token that the model has no embedding for."""
        rows = self.rows_of(phase).rows(start, stop)
        ids = np.asarray(rows.input_ids)
        if int(ids.max()) >= self._vocab_size or int(ids.min()) < 0:
            row = int(np.argmax((ids >= self._vocab_size).any(axis=1) | (ids < 0).any(axis=1)))
            raise TrainError(
                f"{phase.folder}: row {start + row} holds token {int(ids[row].max())}, but the model's vocabulary has "
                f"{self._vocab_size}. The data was built with another tokenizer, or the folder is damaged "
                "(`yulanmini data verify` tells)."
            )
        input_ids = torch.from_numpy(ids.astype(np.int64))
        labels, position_ids = input_ids, None
        if rows.padding.any():
            tail = np.arange(phase.context_length) >= phase.context_length - rows.padding[:, None]
            labels = labels.masked_fill(torch.from_numpy(tail), IGNORED)
        if phase.document_mask:
            position_ids, starts = _positions(rows.doc_lengths, phase.context_length)
            # The first token of a document is no target: under the mask nothing that it depends on is visible.
            labels = labels.masked_fill(starts, IGNORED)
        subset_ids = torch.from_numpy(np.asarray(rows.subset_ids).astype(np.int64))
        batch = MicroBatch(input_ids, labels, position_ids, subset_ids, start)
        return _pinned(batch) if self._world.device.type == "cuda" else batch

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def to_device(batches: Sequence[MicroBatch], device: torch.device) -> Iterator[MicroBatch]:
    """The micro-batches one by one on `device`, copied without waiting."""
    for batch in batches:
        yield MicroBatch(
            batch.input_ids.to(device, non_blocking=True),
            batch.labels.to(device, non_blocking=True),
            None if batch.position_ids is None else batch.position_ids.to(device, non_blocking=True),
            batch.subset_ids.to(device, non_blocking=True),
            batch.row_start,
        )


def _positions(doc_lengths: Sequence[np.ndarray], context_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Position of each token in its document, and where documents begin; int64 and bool [rows, context_length]."""
    positions = np.empty((len(doc_lengths), context_length), dtype=np.int64)
    for row, lengths in enumerate(doc_lengths):
        ends = np.cumsum(lengths)
        positions[row] = np.arange(context_length) - np.repeat(ends - lengths, lengths)
    tensor = torch.from_numpy(positions)
    return tensor, tensor == 0


def _pinned(batch: MicroBatch) -> MicroBatch:
    positions = None if batch.position_ids is None else batch.position_ids.pin_memory()
    labels = batch.labels.pin_memory()
    return MicroBatch(batch.input_ids.pin_memory(), labels, positions, batch.subset_ids.pin_memory(), batch.row_start)
