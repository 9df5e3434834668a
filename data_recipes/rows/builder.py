"""Built phases through `datasets`' own builder: `download_and_prepare`, its cache, its splits; no loading script.

builder = PackedRowsBuilder(config_name="phase-07", data_dir="data")
builder.download_and_prepare()
rows = builder.as_dataset(split="train")
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from data_recipes.errors import DataError
from data_recipes.rows.reader import PackedRows, load_phase
from data_recipes.rows.verify import phases_in


@dataclass
class PackedRowsConfig(datasets.BuilderConfig):
    """One built phase; `name` is its folder below `data_dir`."""


class PackedRowsBuilder(datasets.ArrowBasedBuilder):
    """One config a phase. The cache is keyed by the phase's fingerprint, so a rebuilt phase is read again."""

    BUILDER_CONFIG_CLASS = PackedRowsConfig

    def __init__(self, *args: Any, data_dir: str | Path, config_name: str | None = None, **kwargs: Any) -> None:
        root = Path(data_dir)
        folders = {folder.name: folder for folder in phases_in(root)}
        if config_name is None and len(folders) == 1:
            config_name = next(iter(folders))
        if config_name not in folders:
            raise DataError(f"{root}: no phase '{config_name}'. Built here: {', '.join(folders)}.")
        self.folder = folders[config_name]
        self.phase = PackedRows(self.folder)
        kwargs.setdefault("hash", self.phase.fingerprint[:16])
        super().__init__(*args, config_name=config_name, data_dir=str(root), **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=f"{self.phase.manifest['name']}: {self.phase.num_rows:,} packed rows in training order",
            features=load_phase(self.folder).features,
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        shards = sorted(name for name in self.phase.manifest["files"] if name.endswith(".arrow"))
        paths = [str(self.folder / name) for name in shards]
        return [datasets.SplitGenerator(name=datasets.Split.TRAIN, gen_kwargs={"shards": paths})]

    def _generate_tables(self, shards: list[str]) -> Iterator[tuple[Any, pa.Table]]:
        for number, shard in enumerate(shards):
            with pa.memory_map(shard) as stream:
                for place, batch in enumerate(pa.ipc.open_stream(stream)):
                    yield datasets.builder.Key(number, place), pa.Table.from_batches([batch])
