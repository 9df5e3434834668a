"""Dialogues to training rows: checked line by line, tokenised with the chat template, put into training order.

Only what the template puts between its `{% generation %}` marks is trained on. Rows go to an Arrow file that every
rank maps. The forms of a dialogue are in dialogues.py.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, disable_progress_bars
from transformers import AutoTokenizer
from trl import pack_dataset

from data_recipes.files import write_whole
from train.errors import TrainError
from train.tuning.config import PretrainingSettings, SftConfig, TuningEvaluationSettings
from train.tuning.dialogues import LINES_AT_ONCE, Lines, lines_of, parse_dialogue
from train.tuning.pretraining_rows import open_phases, pretraining_rows

IGNORED_LABEL = -100
PACKED_AT_ONCE = 2**28  # tokens; 2**31 are more than Arrow's lists hold
Encoded = tuple[pa.RecordBatch, Counter, set[int]]
"""Rows of some lines, what became of these, and the tokens that end their answers."""
ROWS_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


def check_chat_template(tokenizer: Any, folder: Path) -> None:
    """Refuse a tokenizer whose template does not mark the assistant's part."""
    if not tokenizer.chat_template:
        raise TrainError(f"{folder}: the tokenizer has no chat template; add chat_template.jinja to its folder.")
    if not re.search(r"{%-?\s*generation\s*-?%}", tokenizer.chat_template):
        raise TrainError(
            f"{folder}: the chat template has no {{% generation %}} marks, so the assistant's tokens cannot be "
            "distinguished from the user's. Put {% generation %} ... {% endgeneration %} around the assistant's text "
            "and its end-of-turn token."
        )


def encode_lines(lines: Lines, *, tokenizer: Any, path: Path, max_length: int, over_long: str) -> Encoded:
    """Rows of at most `max_length` tokens, counts, and the ids that end the assistant's turns.

    A longer dialogue is cut at the end, or dropped with `over_long="drop"`; one that has no trained token left is
    dropped in any case. Both are counted.
    """
    conversations = [parse_dialogue(line, where=f"{path}, {place}") for place, line in lines]
    encoded = tokenizer.apply_chat_template(
        conversations, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    rows: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    stop_ids: set[int] = set()
    counts: Counter = Counter(dialogues=len(lines))
    for (place, _), ids, mask in zip(lines, encoded["input_ids"], encoded["assistant_masks"], strict=True):
        row = np.asarray(ids, dtype=np.int32)
        trained = np.asarray(mask, dtype=bool)
        ends = set(row[np.flatnonzero(trained & ~np.append(trained[1:], False))].tolist())
        if not ends or not ends <= special:
            raise TrainError(
                f"{path}, {place}: the assistant's turn does not end in a special token inside the template's "
                "{% generation %} marks, so the model would not learn to stop. Move the end-of-turn token inside."
            )
        stop_ids |= ends
        is_over_long = len(row) > max_length
        row, trained = row[:max_length], trained[:max_length]
        # The first token has no predecessor to be predicted from.
        if (is_over_long and over_long == "drop") or not trained[1:].any():
            counts["dropped"] += 1
            continue
        counts["truncated"] += is_over_long
        rows.append(row)
        labels.append(np.where(trained, row, IGNORED_LABEL).astype(np.int32))
        counts["tokens"] += len(row)
        counts["trained_tokens"] += int(trained[1:].sum())
    return as_batch(rows, labels), counts, stop_ids


def as_batch(rows: list[np.ndarray], labels: list[np.ndarray]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(rows, ROWS_SCHEMA[0].type), pa.array(labels, ROWS_SCHEMA[1].type)], ROWS_SCHEMA)


def write_rows(
    path: Path,
    out: Path,
    *,
    tokenizer: Path,
    max_length: int,
    over_long: str = "cut",
    workers: int,
    pretraining: PretrainingSettings | None = None,
) -> dict[str, Any]:
    """Tokenise every dialogue of `path` into the Arrow file `out`, and add text of pretraining if asked for; returns
    what became of them (`write_encoded`)."""
    phases = open_phases(pretraining, tokenizer) if pretraining else []

    def more(counts: Counter) -> Iterator[Encoded]:
        if pretraining is None:
            return
        wanted = round(counts["tokens"] * pretraining.share / (1 - pretraining.share))
        pieces = pretraining_rows(phases, tokens=wanted, max_length=max_length)
        while some := list(islice(pieces, LINES_AT_ONCE)):
            added = sum(map(len, some))
            labels = [np.append(np.int32(IGNORED_LABEL), piece[1:]) for piece in some]
            of_text = Counter(pretraining_tokens=added, tokens=added, trained_tokens=added - len(some))
            yield as_batch(some, labels), of_text, set()

    names = ("dialogues", "truncated", "dropped", "tokens", "trained_tokens")
    settings = {"tokenizer": tokenizer, "path": path, "max_length": max_length, "over_long": over_long}
    return write_encoded(path, out, encode_lines, settings, ROWS_SCHEMA, counted=names, workers=workers, more=more)


def write_encoded(
    path: Path,
    out: Path,
    encode: Callable[..., Encoded],
    settings: dict[str, Any],
    schema: pa.Schema,
    *,
    counted: Sequence[str],
    workers: int,
    more: Callable[[Counter], Iterable[Encoded]] = lambda counts: (),
) -> dict[str, Any]:
    """`encode(lines, **settings)` of all lines of `path`, in their order, as the Arrow file `out`; what `more` gives
    comes after them. `counted`: what is counted, the lines first.

    `{"counts": {...}, "stop_ids": [...]}` is also written beside `out`, last, so that a half-written file is
    never taken for a whole one. The rows do not depend on `workers`.
    """
    from tqdm import tqdm

    summary_path = out.with_suffix(".json")
    if summary_path.is_file():
        return json.loads(summary_path.read_text())
    counts: Counter = Counter(dict.fromkeys(counted, 0))
    stop_ids: set[int] = set()
    lines = counted[0]
    with (
        encoder(encode, settings, workers) as encoded,
        pa.OSFile(str(out), "wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
        tqdm(desc=f"tokenising {lines}", unit=f" {lines}", leave=False, delay=1) as bar,
    ):
        for batch, found, ends in chain(encoded(lines_of(path)), after(more, counts)):
            writer.write_batch(batch)
            counts.update(found)
            stop_ids |= ends
            bar.update(found[lines])
    if counts["tokens"] == 0:
        raise TrainError(f"{path}: no {lines} to train on ({counts[lines]} read, {counts['dropped']} dropped).")
    summary = {"counts": dict(counts), "stop_ids": sorted(stop_ids)}
    write_whole(summary_path, json.dumps(summary))
    return summary


def after(more: Callable[[Counter], Iterable[Encoded]], counts: Counter) -> Iterator[Encoded]:
    """`more(counts)`, called when what comes before it is counted."""
    yield from more(counts)


@contextmanager
def encoder(
    encode: Callable[..., Encoded], settings: dict[str, Any], workers: int
) -> Iterator[Callable[[Iterable[Lines]], Iterable[Encoded]]]:
    """A map from groups of lines to `encode`'s results, in order, on `workers` processes."""
    from multiprocessing import get_context

    if workers == 1:
        start_worker(encode, settings)
        yield partial(map, encode_in_worker)
        return
    with get_context("spawn").Pool(workers, start_worker, (encode, settings)) as pool:
        yield partial(pool.imap, encode_in_worker)


in_worker: dict[str, Callable[[Lines], Encoded]] = {}


def start_worker(encode: Callable[..., Encoded], settings: dict[str, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(settings["tokenizer"])
    check_chat_template(tokenizer, settings["tokenizer"])
    in_worker["encode"] = partial(encode, **{**settings, "tokenizer": tokenizer})


def encode_in_worker(lines: Lines) -> Encoded:
    return in_worker["encode"](lines)


def held_out(rows: int, evaluation: TuningEvaluationSettings | None, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows to train on and of those held out, both in their order; drawn by the seed."""
    share = evaluation.share if evaluation is not None else None
    count = max(1, round(rows * share)) if share is not None else 0
    if share is not None and count >= rows:
        raise TrainError(f"evaluation.share {share:g} of {rows} rows leaves none to train on.")
    is_held_out = np.zeros(rows, dtype=bool)
    is_held_out[np.random.default_rng([seed, 2]).permutation(rows)[:count]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def training_order(
    lengths: np.ndarray, *, batch_size: int, epochs: float, group_by_length: int, seed: int
) -> np.ndarray:
    """Row numbers in the order training reads them, int64 [steps, batch_size]: step t reads `order[t]`.

    Each epoch is a new permutation. Windows of `group_by_length` steps are sorted by length before they are cut
    into steps, and the steps of a window are shuffled: more than 1 saves padding and mixes less. Inside a step the
    longest come first, so that micro-batches hold rows of like length. What does not fill a last step is left out.
    """
    rows = len(lengths)
    steps = int(rows * epochs) // batch_size
    if steps == 0:
        raise TrainError(
            f"{rows} rows x {epochs:g} epochs do not fill one batch of {batch_size}. Lower batch_size or raise epochs."
        )
    epoch_count = -(-steps * batch_size // rows)
    stream = np.concatenate([np.random.default_rng([seed, epoch]).permutation(rows) for epoch in range(epoch_count)])
    order = stream[: steps * batch_size]
    shuffler = np.random.default_rng([seed, epoch_count, 1])
    parts = []
    for start in range(0, len(order), group_by_length * batch_size):
        window = order[start : start + group_by_length * batch_size]
        window = window[np.argsort(-lengths[window], kind="stable")].reshape(-1, batch_size)
        parts.append(window[shuffler.permutation(len(window))])
    return np.concatenate(parts)


def packed(rows: Dataset, length: int) -> Dataset:
    """Whole rows laid into rows of `length` tokens, best fit, decreasing.

    TRL packs 1,000 rows at a time and begins anew with each: at 28,672 tokens that leaves 3 % of the log-normal lengths
    of dialogues unfilled, one row for all of them 0.3 % (tests/train/tuning/test_tuning_exactness.py).
    """
    tokens = pc.sum(pc.list_value_length(rows.data.column("input_ids"))).as_py()
    return pack_dataset(rows, length, "bfd", {"batch_size": max(1000, len(rows) * PACKED_AT_ONCE // tokens)})


def ordered_rows(config: SftConfig, path: Path) -> tuple[Dataset, np.ndarray, Dataset | None]:
    """The rows in training order, the tokens of each step (int64 [steps]), and the rows held out of them."""
    disable_progress_bars()
    rows = Dataset.from_file(str(path))
    trained, kept = held_out(len(rows), config.evaluation, seed=config.seed)
    evaluation = rows.select(kept) if len(kept) else None
    if evaluation is not None:
        rows = rows.select(trained).flatten_indices()
    if config.packing == "bfd":
        rows = packed(rows, config.max_length)
    lengths = pc.list_value_length(rows.data.column("input_ids")).to_numpy().astype(np.int64)
    order = training_order(
        lengths,
        batch_size=config.batch_size,
        epochs=config.epochs,
        group_by_length=config.group_by_length,
        seed=config.seed,
    )
    return rows.select(order.ravel()), lengths[order].sum(axis=1), evaluation
