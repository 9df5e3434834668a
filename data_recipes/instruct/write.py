"""The kept dialogues in one file of JSON lines, in the order of the sources, with what became of them by category."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_recipes.cleaning.pipeline.inputs import Units
from data_recipes.cleaning.pipeline.unit_files import unit_name, writing

TRAIN_NAME = "train.jsonl"


@dataclass
class Written:
    """Dialogues and tokens (where a tokenizer counted them) in all, by source and by category."""

    dialogues: int = 0
    tokens: int | None = None
    of_source: Counter[str] = field(default_factory=Counter)
    of_category: Counter[str] = field(default_factory=Counter)
    tokens_of_source: Counter[str] = field(default_factory=Counter)
    tokens_of_category: Counter[str] = field(default_factory=Counter)


def write_dialogues(filtered: Path, path: Path, *, progress: bool = False) -> Written:
    """Write `path` from the filters' folder: `messages`, `source`, `category`, and where it is from."""
    units = Units(filtered / "work")
    counts = Written()
    with (
        writing(path) as file,
        tqdm(desc="dialogues", unit="file", total=len(units), disable=None if progress else True) as bar,
    ):
        for unit in range(len(units)):
            kept = pq.read_table(filtered / "kept" / f"{unit_name(unit)}.parquet", use_threads=False)
            for line in _lines(units, unit, kept):
                file.write(line)
            _count(counts, units.source_name(unit), kept)
            bar.update()
    return counts


def _lines(units: Units, unit: int, kept: pa.Table) -> Any:
    """The unit's dialogues that were kept, read again where they were gathered: the filters saw their texts only."""
    rows = zip(kept["file"].to_pylist(), kept["row"].to_pylist(), kept["category"].to_pylist(), strict=True)
    wanted = {(file, row): category for file, row, category in rows}
    for file, part in units.parts(unit):
        for row, dialogue in file.format.rows(file, part, set()):
            if (file.name, row) in wanted and not isinstance(dialogue, str):
                yield dialogue_line(dialogue, units.source_name(unit), wanted[file.name, row])


def dialogue_line(dialogue: Any, source: str, category: str) -> bytes:
    line = {"messages": dialogue["messages"], "source": source, "category": category}
    if dialogue.get("answer") is not None:
        line["answer"] = dialogue["answer"]
    line |= {"file": dialogue["origin_file"], "row": dialogue["origin_row"]}
    return orjson.dumps(line) + b"\n"


def _count(counts: Written, source: str, kept: pa.Table) -> None:
    counts.dialogues += len(kept)
    counts.of_source[source] += len(kept)
    category = kept["category"][0].as_py() if len(kept) else None
    if category is not None:
        counts.of_category[category] += len(kept)
    if "tokens" in kept.column_names:
        tokens = sum(kept["tokens"].to_pylist())
        counts.tokens = (counts.tokens or 0) + tokens
        counts.tokens_of_source[source] += tokens
        if category is not None:
            counts.tokens_of_category[category] += tokens
