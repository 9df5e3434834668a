"""Ask the Hub about the published sources: is each dataset there, moved, gated, gone; its revision, size and files."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from data_recipes.reading.files import matches
from data_recipes.reading.hub_answers import Status, answer_of_hub
from data_recipes.recipes.source import Source

MAX_UNREACHABLE = 3
REQUESTED_FIELDS: list[Any] = ["sha", "gated", "disabled", "cardData", "siblings", "usedStorage", "mainSize"]


@dataclass(frozen=True)
class HubStatus:
    """The Hub's answer about one dataset id; `revision` is the commit to pin, `bytes` the size of its files."""

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
    unanswered: bool = False
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
    Only after `MAX_UNREACHABLE` ids without any answer are the rest not asked, with that as their message.
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
        for batch in (islice(waiting, MAX_UNREACHABLE), waiting):
            hubs = list(batch)
            if statuses and all(status.unanswered for status in statuses):
                reason = f"not asked, as there was no answer for the first {len(statuses)}: {statuses[0].message}"
                statuses += [HubStatus(hub, "unreachable", message=reason, unanswered=True) for hub in hubs]
                break
            for status in pool.map(lambda hub: _ask(api, hub, entries[hub], timeout), hubs):
                statuses.append(status)
                bar.update()
    return statuses


def _ask(api: Any, hub: str, entries: Mapping[str, Source], timeout: float) -> HubStatus:
    try:
        info = api.dataset_info(hub, timeout=timeout, expand=REQUESTED_FIELDS)
    except Exception as error:  # the Hub library's, httpx's, and plain ones where the answer is not the Hub's JSON
        status, message = answer_of_hub(error)
        return HubStatus(hub, status, gated=status == "gated", message=message, unanswered=_is_unanswered(error))
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


def _is_unanswered(error: Exception) -> bool:
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
