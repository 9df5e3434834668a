"""Requests to the Hub, repeated when the network fails. Only an answer of the Hub itself makes a source missing: that
it does not exist, or that access is denied. A failure is no answer, and never counts as a missing source."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from data_recipes.errors import DataError, first_line
from data_recipes.reading.files import SourceMissing

Answer = TypeVar("Answer")
Status = Literal["ok", "moved", "gated", "gone", "unreachable"]

ATTEMPTS = 4
# Seconds until an answer begins.
TIMEOUT = 30
LONGEST_WAIT = 60
# Characters of an error that fit a table.
MESSAGE_LENGTH = 160
SCRIPTS = "scripts are no longer supported"
SCRIPT_HINT = " Name its files: access: script-based, data_files: [...]."
# How messages of `datasets`, plain ValueErrors, begin about a config or split that a repository does not have.
NOT_IN_THE_REPOSITORY = ("BuilderConfig ", "Bad split", "Unknown split")


class HubFailure(DataError):
    """The Hub could not be asked, or not be read to the end: the build stops, also with `--missing`."""


def patiently(label: str, ask: Callable[[], Answer]) -> Answer:
    """The result of `ask`. `SourceMissing` when the Hub answers that there is no such thing or denies access, or when
    it must not be asked (HF_HUB_OFFLINE); `HubFailure` when there was no answer in `ATTEMPTS` tries."""
    tries = 0
    while True:
        tries += 1
        try:
            return ask()
        except DataError:
            raise
        except Exception as error:  # datasets raises its own, fsspec's, httpx's and plain ones
            reason = reason_missing(error)
            if reason is not None:
                raise SourceMissing(f"{label}: {reason}") from error
            if _is_offline():
                raise SourceMissing(
                    f"{label}: cannot be loaded ({_cause(error)[1]}): not in the cache, and HF_HUB_OFFLINE is set."
                ) from error
            if tries == ATTEMPTS or not _may_pass(error):
                raise HubFailure(_give_up_message(label, error, tries)) from error
            time.sleep(_seconds_to_wait(error, tries))


def reason_missing(error: BaseException) -> str | None:
    """Why the Hub does not give a source, in words; None where the error is no answer of the Hub about it."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    if any(_is_failure(one) for one in _chain(error)):
        return None
    for one in _chain(error):
        status, message = answer_of_hub(one)
        if status in ("gated", "gone"):
            return f"{status} ({message})."
        if _is_forbidden(one):
            return f"forbidden ({message})."
    message = first_line(error)[:MESSAGE_LENGTH]
    if SCRIPTS in message:
        return f"cannot be loaded ({type(error).__name__}: {message}){SCRIPT_HINT}"
    # A file, or datasets' own errors for a dataset, files, a config or a split that are not there.
    if isinstance(error, FileNotFoundError | RemoteEntryNotFoundError) or message.startswith(NOT_IN_THE_REPOSITORY):
        return f"cannot be loaded ({type(error).__name__}: {message})"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it: datasets hides the Hub's answer behind its own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_failure(error: BaseException) -> bool:
    """Whether nothing answered, or the answer is not about the source: no network, a fault of the server, too
    many requests, a wrong token, the page of a proxy."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError, RemoteEntryNotFoundError

    if isinstance(error, HTTPError) and getattr(error, "response", None) is not None:
        if not isinstance(error, HfHubHTTPError):
            return False  # the Hub library has its own error for it
        refused = answer_of_hub(error)[0] == "unreachable" and not isinstance(error, RemoteEntryNotFoundError)
        return refused and not _is_forbidden(error)
    return isinstance(error, HTTPError | LocalEntryNotFoundError | ConnectionError | TimeoutError)


def _is_forbidden(error: BaseException) -> bool:
    """Whether the Hub answers that the token has no right to it; a proxy's 403 has no message of the Hub."""
    response = getattr(error, "response", None)
    return response is not None and response.status_code == 403 and "X-Error-Message" in response.headers


def _status_of(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else response.status_code


def _may_pass(error: BaseException) -> bool:
    """Whether it makes sense to ask again: not with a token that is wrong or has no rights."""
    return not any(_status_of(one) in (401, 403) for one in _chain(error))


def _is_offline() -> bool:
    """Whether the Hub must not be asked: what the cache lacks is then missing, and no failure."""
    from datasets import config

    return bool(config.HF_HUB_OFFLINE)


def _seconds_to_wait(error: BaseException, tries: int) -> float:
    """1, 2, 4, ... seconds, or what the Hub asks for where it is asked too often."""
    asked = (parse_wait(one.response.headers) for one in _chain(error) if _status_of(one) == 429)  # type: ignore[attr-defined]
    return min(LONGEST_WAIT, max(2 ** (tries - 1), *(seconds or 0 for seconds in asked), 0))


def _cause(error: BaseException) -> tuple[BaseException, str]:
    """The failure behind an error, and its message."""
    cause = next((one for one in _chain(error) if _is_failure(one)), error)
    return cause, answer_of_hub(cause)[1]


def _give_up_message(label: str, error: BaseException, tries: int) -> str:
    cause, message = _cause(error)
    times = "" if tries == 1 else f", tried {tries} times"
    if not _is_failure(cause):
        return (
            f"{label}: cannot be read ({type(cause).__name__}: {message}{times}). Its files may be damaged there: name "
            "others with data_files or revision, or leave the subset out of the recipe."
        )
    return (
        f"{label}: cannot be loaded ({type(cause).__name__}: {message}{times}). That is no answer of the Hub about "
        "this source, so --missing does not apply. Give the same command again later: what is finished is kept."
    )


def answer_of_hub(error: BaseException) -> tuple[Status, str]:
    """What an error of the Hub library means for a dataset, in words that a user can act on."""
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
        return "unreachable", _refusal(error.response)
    return "unreachable", first_line(error)[:MESSAGE_LENGTH]


def _refusal(response: Any) -> str:
    """An answer that is not about the dataset: too many requests, a wrong token, a fault of the server."""
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
