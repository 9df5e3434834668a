"""Hub datasets as files: listed once, fetched as far as a build needs them, checked, and read like local files.

    FETCHED/listed/KEY.json             the commit, and the files that the entry selects, with the hashes of the Hub
    FETCHED/OWNER--NAME/COMMIT/...      those that are fetched, under their paths, each with its record in `.fetched`

The listing stays: a later build reads the same commit, whatever has become of the dataset. Files come in an order by
the seed, so that a part of a dataset is of all of it. What a unit holds does not depend on how many files are there.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.files import read_checked, write_checked
from data_recipes.manifest import fingerprint_of, sha256_file
from data_recipes.ordering import permutation, seed_of
from data_recipes.reading import files as local_files
from data_recipes.reading.documents import Documents
from data_recipes.reading.files import Unit, hash_file, reading_notes, state_of, units_of
from data_recipes.reading.formats import FORMATS, PLAIN_TEXT, format_of, named_format, read_parts
from data_recipes.reading.hub import HubSupply
from data_recipes.reading.hub_answers import patiently
from data_recipes.reading.source_file import COMPRESSED, SourceFile
from data_recipes.reading.supply import Supply, text_identity
from data_recipes.recipes.source import Source

KIND = "fetched-datasets"
# The Hub tells of so many files at a time.
PATHS_AT_ONCE = 500


def listing_of(source: Source, folder: Path) -> dict[str, Any]:
    """The commit and the files of an entry, from the Hub the first time. `SourceMissing` as of `HubSupply.find`;
    `DataError` where the files cannot be read as such."""
    kept = listing_file(source, folder)
    known = read_checked(kept)
    if known is not None:
        return known
    listing = {"hub": source.hub, **_listed(source)}
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_checked(kept, listing)
    return listing


def listing_file(source: Source, folder: Path) -> Path:
    """Where the listing of an entry is kept."""
    # Whether the rows have the columns that the text needs is seen when the files are listed.
    place = [source.hub, source.revision, source.config, source.split, list(source.data_files), text_identity(source)]
    return folder / "listed" / f"{fingerprint_of(place)[:16]}.json"


def _listed(source: Source) -> dict[str, Any]:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    found = HubSupply.find(source)
    if found.revision is None:
        raise DataError(f"{source.label}: its commit is not known here. Give a folder of this machine as path.")
    names = list(found.shards.names)
    api = HfApi()
    listed: dict[str, RepoFile] = {}
    for start in range(0, len(names), PATHS_AT_ONCE):
        ask = partial(
            api.get_paths_info,
            str(source.hub),
            names[start : start + PATHS_AT_ONCE],
            revision=found.revision,
            repo_type="dataset",
        )
        listed |= {one.path: one for one in patiently(source.label, ask) if isinstance(one, RepoFile)}
    strange = [name for name in names if name not in listed or named_format(Path(name)) is PLAIN_TEXT]
    if strange:
        raise DataError(
            f"{source.label}: {strange[0]} cannot be read as a fetched file; expected files of the repository that end "
            f"in {', '.join(FORMATS)}, compressed or not. Build without --fetched, which streams it, or name others by "
            "data_files."
        )
    files = [
        [name, one.size, one.lfs.sha256 if one.lfs is not None else None, one.blob_id]
        for name, one in ((name, listed[name]) for name in names)
    ]
    return {"commit": found.revision, "files": files}


def folder_of(listing: Mapping[str, Any], folder: Path) -> Path:
    """Where the files of a listing are."""
    return folder / str(listing["hub"]).replace("/", "--") / listing["commit"]


def fetch_file(listing: Mapping[str, Any], name: str, folder: Path) -> None:
    """Bring one file here unless it is: continued where it stopped, then compared with the hash that the Hub names."""
    from huggingface_hub import hf_hub_download

    place = folder_of(listing, folder)
    if _record(listing, name, folder) is not None:
        return
    download = partial(
        hf_hub_download, listing["hub"], name, repo_type="dataset", revision=listing["commit"], local_dir=place
    )
    path = Path(patiently(f"{listing['hub']}, {name}", download))
    size, sha256, oid = next(rest for file, *rest in listing["files"] if file == name)
    if path.stat().st_size != size or (sha256 != sha256_file(path) if sha256 else oid != _git_hash(path)):
        path.unlink()
        raise DataError(f"{path}: what came is not the file that the Hub names there. Give the same command again.")
    kept = record_of(listing, name, folder)
    kept.parent.mkdir(exist_ok=True)
    write_checked(kept, {"name": name, "hashed": hash_file(path)})


def _git_hash(path: Path) -> str:
    content = path.read_bytes()  # what is not in LFS is small
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def record_of(listing: Mapping[str, Any], name: str, folder: Path) -> Path:
    """Where it is kept that a file is fetched and checked."""
    return folder_of(listing, folder) / ".fetched" / f"{fingerprint_of(name)[:24]}.json"


def _record(listing: Mapping[str, Any], name: str, folder: Path) -> list[Any] | None:
    """What hashing a fetched file has found; None where it is not there, or has changed since."""
    record = read_checked(record_of(listing, name, folder))
    path = folder_of(listing, folder) / name
    return record["hashed"] if record and path.is_file() and record["hashed"][0] == state_of(path) else None


class FetchedSupply(Supply):
    """The files of a Hub dataset as far as they are fetched, in an order by the seed.

    Small files that follow each other are one unit and are fetched together. `files`: those of the first groups.
    """

    sequential = True

    def __init__(
        self,
        source: Source,
        listing: Mapping[str, Any],
        folder: Path,
        *,
        seed: int,
        files: list[SourceFile] | None = None,
        units: list[Unit] | None = None,
    ) -> None:
        self.source = source
        self.listing = listing
        self.folder = folder
        self.listed = listing_file(source, folder)
        self.seed = seed
        self.revision = listing["commit"]
        self.location = str(folder_of(listing, folder))
        names = [name for name, *_ in listing["files"]]
        place = [source.hub, source.config, source.split, list(source.data_files), self.revision, names]
        self.fingerprint = fingerprint_of(["fetched", place, text_identity(source)])
        order = permutation(len(names), seed_of("files", seed, self.fingerprint)).tolist()
        self._ordered = [listing["files"][number] for number in order]
        self.file_names = [f"{source.hub}@{self.revision}/{name}" for name, *_ in self._ordered]
        self.file_ids = self.file_names
        self.input_bytes = sum(size for _, size, *_ in self._ordered)
        self._groups = _groups([size for _, size, *_ in self._ordered])
        self.files = files if files is not None else []
        self.units = units if units is not None else []
        self.notes: list[str] = []
        self._fetched_groups = 0
        if units is None:
            self.look()

    @classmethod
    def find(cls, source: Source, folder: Path, *, seed: int) -> "FetchedSupply":
        """List the files if they are not listed; fetches none."""
        return cls(source, listing_of(source, folder), folder, seed=seed)

    def look(self) -> None:
        """Take in what was fetched since."""
        place = folder_of(self.listing, self.folder)
        for group in self._groups[self._fetched_groups :]:
            names = [self._ordered[number][0] for number in group]
            records = [_record(self.listing, name, self.folder) for name in names]
            if any(record is None for record in records):
                break
            found = []
            for name, record in zip(names, records, strict=True):
                assert record is not None
                path = place / name
                found.append(SourceFile(name, path, record[1], format_of(path), *map(tuple, record[2:])))
            self.units += units_of(found, first=group.start)
            self.files += found
            self._fetched_groups += 1
        self.notes = reading_notes(self.files[:1])

    @property
    def unit_count(self) -> int | None:
        return len(self.units) if self._fetched_groups == len(self._groups) else None

    @property
    def readable_units(self) -> int:
        return len(self.units)

    def files_wanted(self, units: int) -> list[str]:
        """The files to fetch next, so that about so many units are here."""
        wanted: list[str] = []
        there = len(self.units)
        for group in self._groups[self._fetched_groups :]:
            if there >= units:
                break
            wanted += [self._ordered[number][0] for number in group]
            name, size = self._ordered[group.start][:2]
            there += 1 if Path(name).suffix.lower() in COMPRESSED else max(1, size // local_files.UNIT_BYTES)
        return wanted

    def fetch(self, name: str) -> None:
        fetch_file(self.listing, name, self.folder)

    def read_unit(self, number: int, drops: Counter[str]) -> Iterator[Documents]:
        yield from read_parts(self.source, self.files, self.units[number], drops)

    def unit_identity(self) -> object:
        return ["fetched", local_files.UNIT_BYTES]


def _groups(sizes: Sequence[int]) -> list[range]:
    """Files that follow each other and together are no larger than a unit; larger ones on their own."""
    groups: list[range] = []
    first = held = 0
    for number, size in enumerate(sizes):
        if number > first and held + size > local_files.UNIT_BYTES:
            groups.append(range(first, number))
            first = number
            held = 0
        held += size
    return [*groups, range(first, len(sizes))] if sizes else groups
