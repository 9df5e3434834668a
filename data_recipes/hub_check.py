"""Ask the Hub about the published sources: is each dataset there, moved, gated, gone; its revision, size and files."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from data_recipes.errors import DataError
from data_recipes.source import Source

Status = Literal["ok", "moved", "gated", "gone", "unreachable"]
ASKED: list[Any] = ["sha", "gated", "disabled", "cardData", "siblings", "usedStorage", "mainSize"]


@dataclass(frozen=True)
class HubStatus:
    """What the Hub says of one dataset id; `revision` is the commit to pin, `bytes` the size of its files."""

    hub: str
    status: Status
    now: str | None = None
    revision: str | None = None
    gated: bool = False
    licence: str | None = None
    bytes: int | None = None
    # Entries whose config or file patterns do not exist there, one line each.
    missing: tuple[str, ...] = ()
    message: str | None = None


def check_on_hub(
    sources: Mapping[str, Source],
    *,
    endpoint: str | None = None,
    timeout: float = 15.0,
    workers: int = 8,
    progress: bool = True,
) -> list[HubStatus]:
    """One status per distinct dataset id, in the order of `sources` (entries by name).

    The first id is asked alone: when the network or the Hub is not there, one `DataError` says so at once.
    """
    from huggingface_hub import HfApi
    from tqdm import tqdm

    entries: dict[str, dict[str, Source]] = {}
    for name, source in sources.items():
        if source.hub is not None:
            entries.setdefault(source.hub, {})[name] = source
    if not entries:
        return []
    api = HfApi(endpoint=endpoint)
    ids = list(entries)
    first = _ask(api, ids[0], entries[ids[0]], timeout)
    if first.status == "unreachable":
        raise DataError(
            f"the Hub at {api.endpoint} cannot be asked: {first.message}. Check the network, HF_ENDPOINT and "
            "HF_HUB_OFFLINE; without --online the table needs no network."
        )
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(ids), unit=" datasets", disable=not progress) as bar:
        bar.update()
        statuses = [first]
        for status in pool.map(lambda hub: _ask(api, hub, entries[hub], timeout), ids[1:]):
            statuses.append(status)
            bar.update()
    return statuses


def _ask(api: Any, hub: str, entries: Mapping[str, Source], timeout: float) -> HubStatus:
    from huggingface_hub.errors import (
        DisabledRepoError,
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        info = api.dataset_info(hub, timeout=timeout, expand=ASKED)
    except RepositoryNotFoundError:
        # The Hub gives this answer for a private repository too.
        return HubStatus(hub, "gone", message="not found, or private")
    except DisabledRepoError:
        return HubStatus(hub, "gone", message="disabled by the Hub")
    except OfflineModeIsEnabled:
        return HubStatus(hub, "unreachable", message="offline mode is on (HF_HUB_OFFLINE)")
    except HfHubHTTPError as error:
        answer = f"status {error.response.status_code}" if error.response is not None else _first_line(error)
        return HubStatus(hub, "unreachable", message=f"the Hub answered with {answer}")
    except (HTTPError, OSError, ValueError, KeyError) as error:  # not there, too slow, or not the Hub's JSON
        return HubStatus(hub, "unreachable", message=_first_line(error))
    if info.disabled:
        return HubStatus(hub, "gone", now=info.id, message="disabled by the Hub")
    gated = bool(info.gated)
    status: Status = "moved" if info.id != hub else ("gated" if gated else "ok")
    card: Mapping[str, Any] = info.card_data.to_dict() if info.card_data is not None else {}
    licence = card.get("license")
    return HubStatus(
        hub,
        status,
        now=info.id,
        revision=info.sha,
        gated=gated,
        licence=", ".join(licence) if isinstance(licence, list) else licence,
        bytes=info.main_size or info.used_storage,
        missing=tuple(_missing(entries, info.siblings, card)),
    )


def _missing(entries: Mapping[str, Source], siblings: Any, card: Mapping[str, Any]) -> Iterable[str]:
    """What the entries name and the repository does not have, as far as its file list and card can tell."""
    files = [sibling.rfilename for sibling in siblings or ()]
    configs = [item.get("config_name") for item in card.get("configs") or () if isinstance(item, Mapping)]
    for name, source in entries.items():
        if files:
            for pattern in source.data_files:
                if not any(matches(file, pattern) for file in files):
                    yield f"{name}: no file matches {pattern}"
        if configs and source.config is not None and source.config not in configs:
            yield f"{name}: no config '{source.config}' on the card"


def matches(file: str, pattern: str) -> bool:
    """Whether a repository path fits a pattern; `*` stays within a folder, `**` spans any number of them."""
    return _parts_match(file.split("/"), pattern.split("/"))


def _parts_match(file: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not file
    if pattern[0] == "**":
        return any(_parts_match(file[skip:], pattern[1:]) for skip in range(len(file) + 1))
    return bool(file) and fnmatchcase(file[0], pattern[0]) and _parts_match(file[1:], pattern[1:])


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
