"""The form of a built phase: the columns of its rows, and the names and forms of the files beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_recipes.errors import DataError

# The kind that its manifest names.
KIND = "packed-rows"
SOURCES_NAME = "sources.json"
SHARDS = "rows-*.arrow"


def shard_name(number: int) -> str:
    """`rows-00012.arrow`."""
    return f"rows-{number:05d}.arrow"


def schema_of(context_length: int, labels: pa.DataType = pa.int32()) -> pa.Schema:
    """The columns of a shard; sources, files and subsets are `labels`: indices here, names once published."""
    documents = pa.struct(
        [
            ("source", labels),
            ("file", labels),
            ("row", pa.int64()),
            ("start", pa.int64()),
            ("end", pa.int64()),
        ]
    )
    return pa.schema(
        [
            ("input_ids", pa.list_(pa.int32(), context_length)),
            ("doc_lengths", pa.list_(pa.int32())),
            ("subset", labels),
            ("documents", pa.list_(documents)),
        ]
    )


def write_for_datasets(folder: Path, *, title: str, shards: Sequence[str], fingerprint: str) -> None:
    """Let `datasets` alone read a phase: `load_dataset(folder)` by the card, `load_from_disk(folder)` by `train`.

    `load_dataset` refuses a folder with the `state.json` that `load_from_disk` needs. So that lies in a folder of the
    split and refers back to the shards, as a `DatasetDict` allows.
    """
    card = {"pretty_name": title, "configs": [{"config_name": "default", "data_files": [SHARDS]}]}
    (folder / "README.md").write_text(
        f"---\n{json.dumps(card, ensure_ascii=False)}\n---\n\n# {title}\n\n"
        "Packed rows in the order of training, to read forward. What they were made of is in `manifest.json`.\n\n"
        "```python\n"
        "from datasets import load_dataset, load_from_disk\n"
        'rows = load_dataset(folder, split="train")   # copies into the cache of datasets\n'
        'rows = load_from_disk(folder)["train"]       # reads the shards where they are\n'
        "```\n"
    )
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}) + "\n")
    split = folder / "train"
    split.mkdir(exist_ok=True)
    state: dict[str, Any] = {
        "_data_files": [{"filename": f"../{name}"} for name in shards],
        "_fingerprint": fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": "train",
    }
    (split / "state.json").write_text(json.dumps(state, indent=1) + "\n")
    (split / "dataset_info.json").write_text("{}\n")


def read_file_tables(folder: Path) -> list[dict[str, Any]]:
    """The sources by number, each `{"name", "files"}`; `DataError` when the file is gone or damaged."""
    path = folder / SOURCES_NAME
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: missing or damaged. Check with 'yulanmini data verify {folder}'.") from error
