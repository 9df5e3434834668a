"""Where a server is and what opens it: its address, and the key, which comes from one environment variable only.

The key is never stored and never shown: not in a manifest, not among the answers kept, not in a message, even where a
server repeats it.
"""

import os
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

from data_recipes.errors import DataError

KEY_VARIABLE = "OPENAI_API_KEY"
SHORTEST_SECRET = 8  # characters; shorter ones (EMPTY, none) are what servers without keys are given
MOST_SAID = 300  # characters of a server's words that a message repeats


def base_url(url: str) -> str:
    """http://host:port/v1 of whatever of it was given; `DataError` for anything but http and https."""
    parts = urlparse(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise DataError(f"endpoint: keys are read from the variable {KEY_VARIABLE} and do not belong into the address.")
    try:
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or too large
        whole = False
    if not whole:
        raise DataError(f"endpoint '{url}': expected an address such as http://localhost:8000/v1.")
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def key_headers() -> dict[str, str]:
    """The header that carries the key; none where the variable is not set."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        return {}
    if not key.isascii() or not key.isprintable():
        raise DataError(f"{KEY_VARIABLE}: holds characters that no key has. Set it anew (it is not shown here).")
    return {"Authorization": f"Bearer {key}"}


def without_key(words: str) -> str:
    """A server's words in one line of at most `MOST_SAID` characters, with the key taken out where they repeat it."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if len(key) >= SHORTEST_SECRET:
        words = words.replace(key, f"[{KEY_VARIABLE}]")
    return " ".join(words.split())[:MOST_SAID]


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this address, as other programs take it; ~/.netrc is not read."""
    parts = urlparse(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
