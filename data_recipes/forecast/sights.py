"""What is known of a source before it is read: whether it is there, its files, and their bytes.

Of local files by listing them, of a Hub dataset by what its entry says, or, where the Hub is asked, by what it
answers (`hub_sizes.py`). No file is opened.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from data_recipes.manifest import fingerprint_of
from data_recipes.reading.files import SourceMissing, list_files
from data_recipes.reading.hub_sizes import selections
from data_recipes.reading.opening import check_access
from data_recipes.reading.supply import text_identity
from data_recipes.recipes.source import Source

# The state of a Hub dataset that was not looked up.
ON_THE_HUB = "on the Hub"


@dataclass(frozen=True)
class Sight:
    """`state`: `readable`, `on the Hub` (it was not asked), or why it cannot be read. `bytes` of the
    `files` that the entry selects, None while unknown; `endings`: bytes by what the names end in."""

    state: str
    message: str = ""
    files: int | None = None
    bytes: int | None = None
    endings: dict[str, int] = field(default_factory=dict)
    local: bool = False

    @property
    def readable(self) -> bool:
        return self.state in ("readable", ON_THE_HUB, "moved")


def reading_key(source: Source) -> str:
    """Equal for two entries that read the same documents, as far as the entries show. A build compares contents."""
    place = [str(source.location), source.glob] if source.path is not None else [source.hub, source.url]
    selection = [source.config, source.split, list(source.data_files), source.revision]
    own = source.model_dump_json() if source.path is None and source.hub is None else None
    return fingerprint_of([place, selection, own, text_identity(source)])


def look(source: Source) -> Sight:
    """What the entry, and for local files their folder, tells. `DataError` for an entry that a build would refuse."""
    try:
        if source.path is None:
            check_access(source)
            state = ON_THE_HUB if source.access != "gated" else "gated"
            return Sight(state, "accept its terms on the Hub and log in with 'hf auth login'" * (state == "gated"))
        return sight_of_files([(path.name, path.stat().st_size) for path in list_files(source)], local=True)
    except SourceMissing as error:
        return Sight(source.access if source.path is None else "missing", str(error), local=source.path is not None)


def can_be_had(source: Source) -> bool:
    """Whether a Hub dataset that was not asked about is within reach: a folder here, in a cache, or the Hub is."""
    from datasets import config
    from huggingface_hub import constants

    if source.hub is None or not config.HF_HUB_OFFLINE or Path(source.hub).is_dir():
        return True
    caches = (
        Path(constants.HF_HUB_CACHE) / f"datasets--{source.hub.replace('/', '--')}",
        Path(config.HF_DATASETS_CACHE) / source.hub.replace("/", "___"),
    )
    return any(cache.is_dir() for cache in caches)


def look_on_hub(sources: Iterable[Source], *, progress: bool) -> dict[str, Sight]:
    """What the Hub answers about those of the sources that are there, by reading key; those that it gave no answer
    about are left out."""
    asked = {reading_key(source): source for source in sources if source.hub is not None and source.readable != "no"}
    found = {}
    for key, one in selections(asked, progress=progress).items():
        if one.state != "unreachable":
            sight = sight_of_files(one.files, state=one.state) if one.files is not None else Sight(one.state)
            found[key] = replace(sight, message=one.message)
    return found


def sight_of_files(files: Sequence[tuple[str, int]], *, state: str = "readable", local: bool = False) -> Sight:
    """The sight of files by name and size."""
    endings: Counter[str] = Counter()
    for name, size in files:
        endings[ending(name)] += size
    return Sight(state, files=len(files), bytes=sum(size for _, size in files), endings=dict(endings), local=local)


def ending(name: str) -> str:
    """What tells how much text is in a file: `.zst` for `a.jsonl.zst`; `plain` where the file is the text."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in (".parquet", ".zst", ".gz", ".jsonl", ".json", ".arrow") else "plain"


def expected_ending(source: Source) -> str:
    """The ending of a source's files where they were not listed."""
    names = source.data_files or ((Path(source.path).name,) if source.path is not None else ())
    return ending(names[0]) if names else "unknown"
