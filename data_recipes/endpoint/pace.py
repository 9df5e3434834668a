"""When the next request may leave: limits of requests and tokens a minute, and pauses that the server asks for."""

import asyncio
from time import monotonic


class Pace:
    """Requests leave evenly spaced, so that no window of a minute holds more than the limits allow.

    Tokens are booked before a request leaves, by an estimate, and corrected when its answer says what it was.
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self.a_request = 60 / requests_per_minute if requests_per_minute else 0.0  # seconds
        self.a_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._next_request = self._next_tokens = self._paused_until = 0.0

    async def turn(self, tokens: int) -> None:
        """Wait until a request of about so many tokens may leave."""
        while (wait := self._paused_until - monotonic()) > 0:
            await asyncio.sleep(wait)
        if not self.a_request and not self.a_token:
            return
        now = monotonic()
        leaves = max(now, self._next_request, self._next_tokens)
        self._next_request = leaves + self.a_request
        self._next_tokens = max(now, self._next_tokens) + tokens * self.a_token
        if leaves > now:
            await asyncio.sleep(leaves - now)
            if self._paused_until > monotonic():
                await self.turn(0)

    def correct(self, estimated: int, tokens: int) -> None:
        """An answer took `tokens`, not what was estimated."""
        self._next_tokens += (tokens - estimated) * self.a_token

    def pause(self, seconds: float) -> None:
        """Nothing leaves for so long."""
        self._paused_until = max(self._paused_until, monotonic() + seconds)
