"""The rows of a step, as this rank's micro-batches. The next step's rows are read while the current one computes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from data_recipes.rows.reader import PackedRows
from train.curriculum.plan import Curriculum, Phase, StepPlan
from train.errors import TrainError
from train.launch.world import World

IGNORED = -100
DOCUMENTS_STEP = 64


@dataclass(frozen=True)
class MicroBatch:
    """`input_ids` and `labels` int64 [rows, context]; `subset_ids` int64 [rows], indices of the phase's subsets.

    Labels are not shifted (the model does that); -100 where nothing is to be predicted. `document_arguments` mark
    where documents begin; empty without a document mask.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    subset_ids: torch.Tensor
    row_start: int
    document_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def position_ids(self) -> torch.Tensor | None:
        """Positions that restart with each document; None without a document mask or where its lengths are given."""
        return self.document_arguments.get("position_ids")

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> "MicroBatch":
        """The same with `move` applied to every tensor."""
        arguments = {
            key: move(value) if torch.is_tensor(value) else value for key, value in self.document_arguments.items()
        }
        return MicroBatch(move(self.input_ids), move(self.labels), move(self.subset_ids), self.row_start, arguments)


@dataclass(frozen=True)
class StepRows:
    """This rank's part of a step; `targets` is its number of predicted tokens."""

    micro_batches: list[MicroBatch]
    targets: int


def check_divisible(curriculum: Curriculum, ranks: int) -> None:
    """TrainError where a phase's rows per step cannot be shared by the ranks in micro-batches of the given size."""
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

    def __init__(self, curriculum: Curriculum, world: World, *, vocab_size: int, by_lengths: bool) -> None:
        """`by_lengths`: the attention cuts documents by their lengths; else it is given positions that restart."""
        self._curriculum = curriculum
        self._world = world
        self._vocab_size = vocab_size
        self._by_lengths = by_lengths
        self._documents: dict[str, tuple[int, int]] = {}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows")
        self._ahead: tuple[int, Future[StepRows]] | None = None

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
        rows = phase.packed.rows(start, stop)
        ids = np.asarray(rows.input_ids)
        if int(ids.max()) >= self._vocab_size or int(ids.min()) < 0:
            row = int(np.argmax((ids >= self._vocab_size).any(axis=1) | (ids < 0).any(axis=1)))
            raise TrainError(
                f"{phase.packed.folder}: row {start + row} holds token {int(ids[row].max())}, but the model's "
                f"vocabulary has {self._vocab_size}. The data was built with another tokenizer, or the folder "
                "is damaged (check with `yulanmini data verify`)."
            )
        input_ids = torch.from_numpy(ids.astype(np.int64))
        labels = input_ids
        arguments: dict[str, Any] = {}
        if rows.padding.any():
            tail = np.arange(phase.context_length) >= phase.context_length - rows.padding[:, None]
            labels = labels.masked_fill(torch.from_numpy(tail), IGNORED)
        if phase.document_mask:
            positions = _positions(rows.doc_lengths, phase.context_length)
            arguments = self._lengths(phase, rows.doc_lengths) if self._by_lengths else {"position_ids": positions}
            # The first token of a document is no target: under the mask nothing that it depends on is visible.
            labels = labels.masked_fill(positions == 0, IGNORED)
        subset_ids = torch.from_numpy(np.asarray(rows.subset_ids).astype(np.int64))
        batch = MicroBatch(input_ids, labels, subset_ids, start, arguments)
        return batch.moved(torch.Tensor.pin_memory) if self._world.device.type == "cuda" else batch

    def _lengths(self, phase: Phase, doc_lengths: Sequence[np.ndarray]) -> dict[str, Any]:
        """Where documents of the flattened rows end (int32, from 0 on) and the longest, as varlen kernels take them.

        Both of one size for the whole phase, so that torch.compile makes one graph of it: empty documents at the end
        fill up to the most that a micro-batch of the phase holds. A batch of more rows takes twice as many, or four
        times, ..., and so a graph of its own.
        """
        if phase.name not in self._documents:
            share = phase.rows_per_step // self._world.size
            self._documents[phase.name] = documents_of(phase.packed, phase.micro_batch_rows or share)
        most, longest = self._documents[phase.name]
        lengths = np.concatenate(doc_lengths)
        while most < len(lengths):
            most *= 2
        ends = np.full(most + 1, lengths.sum(), dtype=np.int32)
        ends[0] = 0
        ends[1 : len(lengths) + 1] = np.cumsum(lengths)
        cuts = torch.from_numpy(ends)
        return {"cu_seq_lens_q": cuts, "cu_seq_lens_k": cuts, "max_length_q": longest, "max_length_k": longest}

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def to_device(batches: Sequence[MicroBatch], device: torch.device) -> Iterator[MicroBatch]:
    """The micro-batches one by one on `device`, copied without waiting."""
    for batch in batches:
        yield batch.moved(lambda tensor: tensor.to(device, non_blocking=True))


def _positions(doc_lengths: Sequence[np.ndarray], context_length: int) -> torch.Tensor:
    """Position of each token in its document, int64 [rows, context_length]."""
    lengths = np.concatenate(doc_lengths)
    ends = np.cumsum(lengths, dtype=np.int64)
    positions = np.arange(len(doc_lengths) * context_length) - np.repeat(ends - lengths, lengths)
    return torch.from_numpy(positions.reshape(-1, context_length))


def documents_of(packed: PackedRows, rows: int) -> tuple[int, int]:
    """The most documents that `rows` rows in a row hold, rounded up to a multiple of 64, and the longest document.

    Padding at the end of a row counts as one. Reads the lengths of the whole phase, no tokens.
    """
    counts, longest = [], 0
    for part in packed.scan():
        column = part.column("doc_lengths")
        counts.append(np.diff(column.offsets.to_numpy()))
        longest = max(longest, int(column.flatten().to_numpy().max()))
    of_rows = np.concatenate(counts)
    most = int(np.add.reduceat(of_rows, np.arange(0, len(of_rows), rows)).max())
    return -(-most // DOCUMENTS_STEP) * DOCUMENTS_STEP, longest
