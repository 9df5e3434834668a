"""Stretches of bad data: a built phase with its ids replaced, in the form of any other phase."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_recipes.manifest import MANIFEST_NAME, whole_folder, write_manifest
from data_recipes.packing.writer import arrow_array
from data_recipes.rows.layout import KIND, SHARDS, shard_name
from data_recipes.rows.reader import PackedRows

Ids = np.ndarray
# From good ids [rows, context_length] and the size of the vocabulary to bad ones of the same shape.
KINDS: Mapping[str, Callable[[Ids, int, np.random.Generator], Ids]] = {
    "random-ids": lambda ids, vocab_size, draws: draws.integers(0, vocab_size, ids.shape, dtype=np.int32),
    "one-token": lambda ids, vocab_size, draws: np.full_like(ids, ids[0, 0]),
    "shuffled": lambda ids, vocab_size, draws: draws.permuted(ids, axis=1),
}


def write_bad_rows(good: Path, folder: Path, *, kind: str, rows: int) -> None:
    """Write the phase `folder`: the first `rows` rows of the phase `good` with ids of `KINDS[kind]`."""
    source = PackedRows(good)
    manifest = source.manifest
    draws = np.random.default_rng(0)
    of_subset = np.bincount(source.rows(0, rows).subset_ids, minlength=len(manifest["subsets"]))
    subsets = [
        {**subset, "rows": count, "tokens": count * source.context_length, "quota_tokens": None}
        for subset, count in zip(manifest["subsets"], of_subset.tolist(), strict=True)
    ]
    with whole_folder(folder) as partial:
        for path in good.iterdir():
            if path.is_file() and path.name != MANIFEST_NAME and not path.match(SHARDS):
                shutil.copy(path, partial)
        with pa.OSFile(str(partial / shard_name(0)), "w") as file:
            parts = source.batches(0, rows)
            with pa.ipc.new_stream(file, parts[0].schema) as writer:
                for part in parts:
                    ids = part.column("input_ids").flatten().to_numpy().reshape(-1, source.context_length)
                    bad = KINDS[kind](ids, manifest["tokenizer"]["vocab_size"], draws)
                    flat = arrow_array(bad.reshape(-1), pa.int32())
                    column = pa.FixedSizeListArray.from_arrays(flat, source.context_length)
                    writer.write_batch(part.set_column(0, part.schema.field(0), column))
        write_manifest(
            partial,
            kind=KIND,
            inputs={**manifest["inputs"], "phase": source.fingerprint},
            config={**manifest["config"], "name": folder.name, "rows_per_shard": rows, "ids": kind},
            counts={**manifest["counts"], "rows": rows, "tokens": rows * source.context_length, "shards": 1},
            seed=0,
            subsets=subsets,
            **{key: manifest[key] for key in ("name", "context_length", "tokenizer", "sources")},
        )
