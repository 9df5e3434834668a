"""Which files go to LFS: those that .gitattributes names, large ones, and those whose beginning is not text."""

import re
from functools import cache

ATTRIBUTES = ".gitattributes"
MOST_BYTES_IN_GIT = 10 << 20
ATTRIBUTE = "filter=lfs diff=lfs merge=lfs -text"
# What the Hub writes into a new repo.
OF_EVERY_TYPE = """*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy
*.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite
*.tgz *.wasm *.xz *.zip *.zst *tfevents*"""
OF_DATASETS = """*.lz4 *.mds *.pcm *.sam *.raw *.aac *.flac *.mp3 *.ogg *.wav *.bmp *.gif *.png *.tiff *.jpg *.jpeg
*.webp *.mp4 *.webm"""


def default_attributes(repo_type: str) -> bytes:
    """The .gitattributes of a new repo."""
    patterns = f"{OF_EVERY_TYPE} {OF_DATASETS if repo_type == 'dataset' else ''}".split()
    return "".join(f"{pattern} {ATTRIBUTE}\n" for pattern in patterns).encode()


def with_path(attributes: bytes, path: str) -> bytes:
    """.gitattributes that name one more file, as the Hub adds a line for a file that no pattern names."""
    end = b"" if attributes.endswith(b"\n") or not attributes else b"\n"
    return attributes + end + f"{path} {ATTRIBUTE}\n".encode()


def is_named(path: str, attributes: bytes) -> bool:
    """Whether .gitattributes send `path` to LFS. As in git, the last line that fits decides."""
    named = False
    for line in attributes.decode(errors="replace").splitlines():
        pattern, *settings = line.split() or ["#"]
        if not pattern.startswith("#") and _expression(pattern).fullmatch(path):
            named = "filter=lfs" in settings
    return named


def is_binary(sample: bytes) -> bool:
    """Whether the beginning of a file is not text. A character that the sample cuts off is no sign of it."""
    if b"\0" in sample:
        return True
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start < len(sample) - 3
    return False


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern of .gitattributes; one without a slash is for the last part of a path."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    text = "".join(parts.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern.lstrip("/")))
    return re.compile(text if "/" in pattern else f"(?:.*/)?{text}")
