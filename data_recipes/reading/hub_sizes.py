"""How many bytes of a Hub dataset an entry selects: its files by config, split and patterns, and their sizes from the
Hub's file tree. Nothing of the data is read."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from data_recipes.errors import DataError
from data_recipes.reading.files import SourceMissing, matches
from data_recipes.reading.hub import selected_files
from data_recipes.reading.hub_answers import patiently
from data_recipes.reading.hub_status import HubStatus, check_on_hub
from data_recipes.recipes.source import Source

WILDCARDS = "*?["


@dataclass(frozen=True)
class Selection:
    """What the Hub answers about one entry: `state` as `HubStatus.status`, or `readable`, or `no files`; `files` with
    their sizes, None where they could not be listed."""

    state: str
    message: str
    files: Sequence[tuple[str, int]] | None = None


def selections(
    sources: Mapping[str, Source], *, endpoint: str | None = None, workers: int = 8, progress: bool = True
) -> dict[str, Selection]:
    """The selection of each entry on the Hub, by the same keys; where nothing answers, `unreachable` for all."""
    from huggingface_hub import HfApi
    from tqdm import tqdm

    on_hub = {key: source for key, source in sources.items() if source.hub is not None}
    statuses = {one.hub: one for one in check_on_hub(on_hub, endpoint=endpoint, progress=progress)}
    by_hub: dict[str, dict[str, Source]] = {}
    for key, source in on_hub.items():
        by_hub.setdefault(str(source.hub), {})[key] = source
    api = HfApi(endpoint=endpoint)
    found: dict[str, Selection] = {}
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(total=len(by_hub), desc="list files", unit=" datasets", disable=not progress, leave=False)
        for one in pool.map(lambda hub: _of_dataset(api, statuses[hub], by_hub[hub]), by_hub):
            found |= one
            bar.update()
        bar.close()
    return found


def _of_dataset(api: Any, status: HubStatus, entries: Mapping[str, Source]) -> dict[str, Selection]:
    message = status.message or (f"moved to {status.now}" if status.status == "moved" else "")
    if status.status in ("gone", "unreachable"):
        return dict.fromkeys(entries, Selection(status.status, message))
    if status.gated and not _has_access(api, status.hub):
        message = "accept its terms on the Hub and log in with 'hf auth login'"
    elif status.status == "gated":
        message = ""
    state = "gated" if status.gated and message else ("moved" if status.status == "moved" else "readable")
    trees: dict[tuple[str, str], dict[str, int]] = {}
    found = {}
    for key, source in entries.items():
        commit = source.revision or str(status.revision)
        try:
            files = patiently(source.label, partial(_files, api, source, commit, trees))
        except SourceMissing as error:
            found[key] = Selection(state if state == "gated" else "no files", message or str(error))
        except DataError as error:
            found[key] = Selection("unreachable", str(error))
        else:
            found[key] = Selection(state, message, files)
    return found


def _has_access(api: Any, hub: str) -> bool:
    """Whether this token may read a gated dataset."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.auth_check(hub, repo_type="dataset")
    except HfHubHTTPError:
        return False
    return True


def _files(
    api: Any, source: Source, commit: str, trees: dict[tuple[str, str], dict[str, int]]
) -> list[tuple[str, int]]:
    """The entry's files with their sizes. Where it names patterns the tree is enough, also of a gated dataset."""
    if source.data_files:
        sizes: dict[str, int] = {}
        for folder in {_fixed_part(pattern) for pattern in source.data_files}:
            sizes |= _tree(api, str(source.hub), commit, folder, trees)
        names = [name for name in sizes if any(matches(name, pattern) for pattern in source.data_files)]
    else:
        names = selected_files(source, commit)
        folder = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
        sizes = _tree(api, str(source.hub), commit, folder, trees)
    if not names:
        raise SourceMissing(f"{source.label}: no file there matches {', '.join(source.data_files) or 'its config'}.")
    return [(name, sizes[name]) for name in sorted(names) if name in sizes]


def _fixed_part(pattern: str) -> str:
    """The folder that all files of a pattern are in."""
    parts = pattern.split("/")[:-1]
    first = next((place for place, part in enumerate(parts) if any(sign in part for sign in WILDCARDS)), len(parts))
    return "/".join(parts[:first])


def _tree(api: Any, hub: str, commit: str, folder: str, trees: dict[tuple[str, str], dict[str, int]]) -> dict[str, int]:
    """Sizes of all files below a folder, asked for once."""
    from huggingface_hub.hf_api import RepoFile

    if (commit, folder) not in trees:
        listed = api.list_repo_tree(
            hub, path_in_repo=folder or None, recursive=True, revision=commit, repo_type="dataset"
        )
        trees[commit, folder] = {entry.path: entry.size for entry in listed if isinstance(entry, RepoFile)}
    return trees[commit, folder]
