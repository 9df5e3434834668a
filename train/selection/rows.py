"""Dialogues as rows of tokens, in files of a fixed number of candidates: what the stages of a selection share."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from train.errors import TrainError
from train.tuning.data import IGNORED_LABEL, encode_lines
from train.tuning.dialogues import lines_of

BLOCK = 2048
"""Candidates of a file, which is the unit of work: scored as a whole, or again after a stop."""
SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("number", pa.int64()),  # of the dialogue in its file, from 0
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
    ]
)


def encoded(files: dict[str, Path], *, tokenizer: Any, max_length: int) -> Iterator[dict[str, Any]]:
    """A row (as in SCHEMA) of each dialogue that has something to train on within `max_length` tokens."""
    for source, number, line in numbered_lines(files):
        batch = encode_lines([line], tokenizer=tokenizer, path=files[source], max_length=max_length, over_long="cut")[0]
        for row in batch.to_pylist():
            yield {"source": source, "number": number, **row}


def numbered_lines(files: dict[str, Path]) -> Iterator[tuple[str, int, tuple[str, bytes]]]:
    """(source, number in its file from 0, place and content) of every dialogue, in the order of the files."""
    for source, path in files.items():
        lines = (line for group in lines_of(path) for line in group)
        yield from ((source, number, line) for number, line in enumerate(lines))


def write_candidates(files: dict[str, Path], folder: Path, *, tokenizer: Any, max_length: int) -> int:
    """Files of BLOCK rows in `folder`; returns how many rows there are."""
    folder.mkdir(parents=True, exist_ok=True)
    held: list[dict[str, Any]] = []
    count = 0

    def write() -> None:
        pq.write_table(pa.Table.from_pylist(held, SCHEMA), folder / f"{count // BLOCK:05d}.parquet")

    with tqdm(desc="tokenising candidates", unit="dialogue", disable=None, leave=False) as bar:
        for row in encoded(files, tokenizer=tokenizer, max_length=max_length):
            held.append(row)
            bar.update()
            if len(held) == BLOCK:
                write()
                count, held = count + BLOCK, []
    if held:
        write()
    if not count + len(held):
        raise TrainError(f"{', '.join(map(str, files.values()))}: no dialogue to choose from.")
    return count + len(held)


def write_targets(files: dict[str, Path], path: Path, *, tokenizer: Any, max_length: int) -> None:
    """One file of the rows of all targets. TrainError for a target without any."""
    rows = list(encoded(files, tokenizer=tokenizer, max_length=max_length))
    for name, file in files.items():
        if not any(row["source"] == name for row in rows):
            raise TrainError(f"{file}: target '{name}' has no dialogue with an answer within {max_length} tokens.")
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def batches(
    rows: list[dict[str, Any]], size: int, pad_id: int, device: torch.device
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Rows of like length together: their places in `rows`, and int64 [rows, tokens], padded on the right."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]["input_ids"]))
    for first in range(0, len(order), size):
        places = order[first : first + size]
        yield places, padded([rows[place] for place in places], pad_id, device)


def padded(rows: list[dict[str, Any]], pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)
    padding = {"input_ids": pad_id, "labels": IGNORED_LABEL, "attention_mask": 0}
    filled = {name: torch.full((len(rows), width), pad) for name, pad in padding.items()}
    for place, row in enumerate(rows):
        length = len(row["input_ids"])
        filled["input_ids"][place, :length] = torch.tensor(row["input_ids"])
        filled["labels"][place, :length] = torch.tensor(row["labels"])
        filled["attention_mask"][place, :length] = 1
    return {name: values.to(device) for name, values in filled.items()}


def chosen_lines(files: dict[str, Path], wanted: dict[str, set[int]]) -> Iterator[tuple[str, int, Any]]:
    """(source, number, what its line holds) of the wanted dialogues, in the order of the files."""
    for source, number, (_, line) in numbered_lines(files):
        if number in wanted.get(source, ()):
            yield source, number, json.loads(line)
