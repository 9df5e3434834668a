"""Ask the Hub about the published sources: is each dataset there, moved, gated, gone; its revision, size and files."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from data_recipes.errors import first_line
from data_recipes.reading.files import matches
from data_recipes.recipes.source import Source

Status = Literal["ok", "moved", "gated", "gone", "unreachable"]
SILENT = 3
# Characters of an error that fit a table.
LINE = 160
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
    # Nothing answered: no network, no such server, offline mode, or too slow.
    silent: bool = False
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

    Whatever happens to one id (gone, too slow, asked too often) is its own status; the others are still asked.
    Only after `SILENT` ids to which nothing answered at all are the rest left unasked, and say so.
    """
    from huggingface_hub import HfApi
    from tqdm import tqdm

    entries: dict[str, dict[str, Source]] = {}
    for name, source in sources.items():
        if source.hub is not None:
            entries.setdefault(source.hub, {})[name] = source
    api = HfApi(endpoint=endpoint)
    statuses: list[HubStatus] = []
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(entries), unit=" datasets", disable=not progress) as bar:
        waiting = iter(entries)
        # The first few ahead of the others: without a network each of them takes as long as `timeout`.
        for batch in (islice(waiting, SILENT), waiting):
            hubs = list(batch)
            if statuses and all(status.silent for status in statuses):
                reason = f"not asked, as there was no answer for the first {len(statuses)}: {statuses[0].message}"
                statuses += [HubStatus(hub, "unreachable", message=reason, silent=True) for hub in hubs]
                break
            for status in pool.map(lambda hub: _ask(api, hub, entries[hub], timeout), hubs):
                statuses.append(status)
                bar.update()
    return statuses


def _ask(api: Any, hub: str, entries: Mapping[str, Source], timeout: float) -> HubStatus:
    try:
        info = api.dataset_info(hub, timeout=timeout, expand=ASKED)
    except Exception as error:  # the Hub library's, httpx's, and plain ones where the answer is not the Hub's JSON
        status, message = answer_of_hub(error)
        return HubStatus(hub, status, gated=status == "gated", message=message, silent=_is_silence(error))
    if info.disabled:
        return HubStatus(hub, "gone", now=info.id, message="disabled by the Hub")
    gated = bool(info.gated)
    status = "moved" if info.id != hub else ("gated" if gated else "ok")
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


def answer_of_hub(error: BaseException) -> tuple[Status, str]:
    """What an error of the Hub library says of a dataset, and in which words a user can act on it."""
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return "gated", "accept its terms on the Hub and log in with 'hf auth login'"
    if isinstance(error, RepositoryNotFoundError):
        return "gone", "not found, or private"  # the Hub gives this answer for a private repository too
    if isinstance(error, RevisionNotFoundError):
        return "gone", "no such revision"
    if isinstance(error, DisabledRepoError):
        return "gone", "disabled by the Hub"
    if isinstance(error, OfflineModeIsEnabled):
        return "unreachable", "offline mode is on (HF_HUB_OFFLINE)"
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return "unreachable", _said_with(error.response)
    return "unreachable", first_line(error)[:LINE]


def _said_with(response: Any) -> str:
    """A refusal that says nothing of the dataset: too many requests, a wrong token, a fault of the server."""
    code = response.status_code
    if code == 429:
        after = parse_wait(response.headers)
        return f"asked too often (status 429); try again {f'in {after} seconds' if after else 'later'}"
    if code in (401, 403):
        return f"no access with this token (status {code}); log in with 'hf auth login'"
    return f"the Hub answered with status {code}"


def parse_wait(headers: Mapping[str, str]) -> int | None:
    """Seconds to wait before the next request: the Hub's `ratelimit` header, else `Retry-After`."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None:
        return limit.reset_in_seconds
    after = headers.get("Retry-After", "")
    return int(after) if after.isdecimal() else None


def _is_silence(error: Exception) -> bool:
    """Whether nothing answered at all, as without a network."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response is None
    return isinstance(error, OfflineModeIsEnabled | HTTPError | OSError)


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
