"""What the Hub reads of a dataset: licence, languages, configs with their files, features and sizes."""

from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq
from datasets import DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import CardData, DatasetCardData

from hub_cards.cards.evidence import OWN, Figures
from hub_cards.cards.licences import Licence
from hub_cards.cards.page import metadata_of
from hub_cards.cards.settings import CardSettings
from hub_cards.repos.names import vocabulary


def dataset_metadata(
    figures: Figures,
    settings: CardSettings,
    licence: Licence,
    *,
    languages: Sequence[str],
    tags: Sequence[str],
    rows: int | None = None,
) -> CardData:
    """The metadata of a card; `dataset_info` for configs of Parquet files. `rows` where the files do not tell."""
    infos = DatasetInfosDict()
    counted = 0
    for name, pattern in settings.configs.items():
        files = sorted(figures.repo.glob(pattern)) if pattern.endswith(".parquet") else []
        if files:
            own = [f"{OWN}{path.relative_to(figures.repo).as_posix()}" for path in files]
            count, in_memory, size = (
                figures.number("sum", [(file, f"/{key}") for file in own]) for key in ("rows", "in_memory", "size")
            )
            counted += count
            infos[name] = DatasetInfo(
                features=Features.from_arrow_schema(pq.read_schema(files[0])),
                splits=SplitDict({"train": SplitInfo("train", num_bytes=in_memory, num_examples=count)}),
                download_size=size,
                dataset_size=in_memory,
            )
    info = DatasetCardData()
    infos.to_dataset_card_data(info)
    configs: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": "train", "path": pattern}]}
        for name, pattern in settings.configs.items()
    ]
    if len(configs) > 1:
        configs[-1]["default"] = True
    return metadata_of(
        DatasetCardData,
        pretty_name=settings.name,
        **licence.keys,
        language=list(languages),
        task_categories=["text-generation"],
        tags=["yulanmini", *tags],
        size_categories=[size_category(counted if rows is None else rows)],
        configs=configs,
        dataset_info=info.get("dataset_info"),
    )


def size_category(rows: int) -> str:
    """The Hub's size category of a number of rows: "n<1K", then a word for each power of ten."""
    words = vocabulary()["size_categories"]
    return words[min(max(0, len(str(rows)) - 3), len(words) - 1)]
