"""The two files that travel with saved weights for `trust_remote_code`: their names and checksums, and comparing them.

Saving copies them (`save_pretrained`); this module compares. The files import torch and transformers only.
"""

import hashlib
from pathlib import Path

REMOTE_FILES = ("configuration_yulanmini.py", "modeling_yulanmini.py")


def packaged_checksums() -> dict[str, str]:
    """SHA-256 of the package's own two files, by name: what a user may pin."""
    return {name: _sha256(Path(__file__).parent / name) for name in REMOTE_FILES}


def differing_files(folder: str | Path) -> list[str]:
    """Names of the two files that `folder` lacks or holds in another version; empty if its code is the package's."""
    return [
        name
        for name, checksum in packaged_checksums().items()
        if not (Path(folder) / name).is_file() or _sha256(Path(folder) / name) != checksum
    ]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
