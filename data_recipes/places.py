"""A folder on this machine or a repository of the Hub: told apart by what is typed, before any network is asked."""

import re
from pathlib import Path

from data_recipes.errors import DataError, near_path


def local_folder(name: str | Path, what: str) -> Path | None:
    """The folder or file that is meant; None for a repository of the Hub. `DataError` for a path that is not there.

    A Hub id has the form `owner/name`. A bare `name` (such as `gpt2`, from the Hub's first years), and one whose
    owner is also a folder here, is more likely a mistyped path: it is taken for the Hub's only if it is in the cache.
    """
    path, text = Path(name), str(name)
    if path.exists():
        return path
    if re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", text) and not path.is_symlink():
        owner = path.parent
        if _is_cached(text) or ("/" in text and not owner.is_dir()):
            return None
        hint = f" If you mean the Hub's, fetch it first: `hf download {text}`."
        if owner == Path("."):
            hint = f" A Hub id has the form owner/name; for one without an owner, `hf download {text}` first."
    else:
        hint = ""
    raise DataError(f"{text}: no such {what} on this machine.{near_path(path) or hint}")


def _is_cached(name: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots").is_dir()
