"""What can go wrong on demand, at any endpoint by name.

`drop`       the connection is reset before anything is done; of a body that is sent, half is read
`lost`       everything is done, then the connection is reset instead of the answer
`truncated`  everything is done; half of the answer comes, then a reset
`slow`       everything is done; the answer comes after `seconds`
`silence`    no answer comes, for `seconds` or until the hub is closed
`crash`      as `drop`, and so every request from then on, until `hub.restart()`
`page`       an HTML page with status 200, as of a network that wants a login first
`500`, ...   any status; after a space the Hub's code (`404 RepoNotFound`), or `message` for one in words only.
             429 comes with a Retry-After of `seconds`, `429 limited` with the Hub's own headers instead
"""

from dataclasses import dataclass
from http import HTTPStatus

from data_recipes.errors import nearest
from hub_cards.errors import HubError
from hub_cards.loopback.protocol import ENDPOINTS, Answer, Request

LOGIN_PAGE = b"<html><title>Sign in to this network</title></html>"
KINDS = ("drop", "lost", "truncated", "slow", "silence", "crash", "page")
STATUSES = {str(status.value) for status in HTTPStatus if status.value >= 300}


@dataclass
class Fault:
    """Breaks requests to `endpoint` whose path has `where` in it, after the first `after`; `times` of them, or all.

    `struck` counts those that it broke.
    """

    kind: str
    endpoint: str | None = None
    where: str = ""
    after: int = 0
    times: int | None = None
    seconds: float = 1
    struck: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS and self.kind.partition(" ")[0] not in STATUSES:
            raise HubError(f"fault '{self.kind}': expected a status or one of {', '.join(KINDS)}.")
        if self.endpoint is not None and self.endpoint not in ENDPOINTS:
            raise HubError(f"fault at '{self.endpoint}': no such endpoint.{nearest(self.endpoint, ENDPOINTS)}")

    def strikes(self, request: Request) -> bool:
        """Whether this request is broken; counts it."""
        if self.endpoint not in (None, request.endpoint) or self.where not in request.path or self.times == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        self.struck += 1
        return True

    @property
    def answer(self) -> Answer | None:
        """What is answered instead; None for a fault of the connection."""
        if self.kind == "page":
            return Answer(LOGIN_PAGE, headers={"Content-Type": "text/html"})
        status, _, code = self.kind.partition(" ")
        if status not in STATUSES:
            return None
        headers = {"X-Error-Code": code} if code not in ("", "message", "limited") else {}
        if code == "message":
            headers["X-Error-Message"] = "You have no rights here."
        elif code == "limited":
            headers["RateLimit"] = f'"api";r=0;t={self.seconds:.0f}'
            headers["RateLimit-Policy"] = '"fixed window";"api";q=500;w=300'
        elif status == "429":
            headers["Retry-After"] = f"{self.seconds:.0f}"
        return Answer({"error": "refused"}, int(status), headers)
