"""What no file may hold, wherever it hides: pickles, secrets, places and names of the machine it was made on."""

import getpass
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import get_token

from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, lines_of, read_json, warning
from hub_cards.repos.files import TEXT_SUFFIXES
from hub_cards.repos.folder import EVIDENCE, PROVENANCE_NAME

# What each begins with or holds: text without it, nearly all, is not searched for the rest.
SECRETS: dict[str, tuple[tuple[bytes, ...], re.Pattern[bytes]]] = {
    "a Hugging Face token": ((b"hf_",), re.compile(rb"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}")),
    "a GitHub token": (
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        re.compile(rb"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})"),
    ),
    "an AWS key": ((b"AKIA", b"ASIA"), re.compile(rb"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])")),
    "an API key": ((b"sk-",), re.compile(rb"(?<![A-Za-z0-9])sk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}")),
    "a Google key": ((b"AIza",), re.compile(rb"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
    "a Slack token": ((b"xox",), re.compile(rb"(?<![A-Za-z0-9])xox[abprs]-[A-Za-z0-9-]{20,}")),
    "a private key": (
        (b"PRIVATE KEY",),
        re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}"),
    ),
    "a password in an address": (
        (b"://",),
        re.compile(rb"\bhttps?://[A-Za-z0-9._~-]+:[^\s/@\"'<>{}]{6,}@[A-Za-z0-9.-]+"),
    ),
}
HOMES = (b"/home/", b"/Users/", b"/root/", b":\\")
HOME_FOLDER = re.compile(rb"(?:/home|/Users)/[A-Za-z0-9._-]+/|/root/|[A-Z]:\\+Users\\+")
FOLDERS = tuple(b"/%s/" % name for name in b"tmp mnt var opt usr srv media private scratch workspace".split())
MACHINE_FOLDER = re.compile(rb"(?<![\w./~>\]-])(?:%s)[\w.-]+" % b"|".join(FOLDERS))
WHOLE_PATH = re.compile(r"(?:/[\w.@+~=-]+){2,}/?|[A-Za-z]:\\[^\n]+")
# Names that an account or a host has on many machines, and that are words of any text.
COMMON_NAMES = {
    "root",
    "user",
    "admin",
    "ubuntu",
    "debian",
    "runner",
    "worker",
    "jovyan",
    "vscode",
    "localhost",
    "home",
}
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
ZIPS = (b"PK\x03\x04", b"PK\x05\x06")
PICKLE = re.compile(rb"\x80[\x02-\x05]")
# Protocol 0 is text: GLOBAL names a module and what is called in it, REDUCE calls it.
TEXT_PICKLE = re.compile(rb"\Ac[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n")
PROGRAMS = {b"\x7fELF": "a program", b"MZ": "a program", b"#!": "a script", b"\x1f\x8b": "an archive"}
# Text that is data: of a corpus, of a model's answers, or the pieces that a tokenizer found in text.
OF_DATA = ("tokenizer.json", "scores.json")
YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there
PIECE = 1 << 24
OVERLAP = 4096


def no_pickles(repo: Subject) -> Iterator[Finding]:
    """Files that run code when they are loaded, by name or by what is in them."""
    for part in repo.parts:
        for name in sorted(part.files):
            with (part.folder / name).open("rb") as file:
                start = file.read(256)
            if name.endswith(PICKLE_SUFFIXES):
                yield error(part.place(name), "a form of file that can run code when it is loaded; remove it")
            elif start.startswith(ZIPS):
                yield error(part.place(name), "a zip archive, as torch.save writes with a pickle in it; remove it")
            elif PICKLE.match(start) or TEXT_PICKLE.match(start):
                yield error(part.place(name), "a pickle, which runs code when it is loaded; remove it")
            else:
                for magic, what in PROGRAMS.items():
                    if start.startswith(magic):
                        yield error(part.place(name), f"{what}, whatever its name says; remove it")


def texts_can_be_read(repo: Subject) -> Iterator[Finding]:
    """Text that is no text; JSON, JSONL and YAML that do not parse, or hold paths of a machine."""
    read: set[tuple[str, str, bool]] = set()
    for part in repo.parts:
        for name in part.matching(*TEXT_SUFFIXES):
            path = part.folder / name
            seen = (part.sha256(name), Path(name).name, is_data(repo, part, name))
            if seen in read:  # branches have copies of the same evidence and code
                continue
            read.add(seen)
            try:
                content = None
                if name.endswith(".json"):
                    content = read_json(path)
                elif name.endswith(".jsonl"):
                    for _ in lines_of(path):
                        pass
                elif name.endswith((".yaml", ".yml")):
                    content = yaml.load(path.read_bytes(), YamlLoader)
                elif b"\0" in path.read_bytes() or path.read_text(encoding="utf-8") is None:
                    yield error(part.place(name), "not text: it holds zero bytes")
                if name != PROVENANCE_NAME and not is_data(repo, part, name):  # its pointers look like paths
                    for found in dict.fromkeys(_absolute(content)):
                        yield error(part.place(name), f"names a folder of a machine: {found}; make the path relative")
            except Unreadable as failure:
                yield error(part.place(name), str(failure))
            except (ValueError, yaml.YAMLError, RecursionError) as failure:
                yield error(part.place(name), f"cannot be read ({' '.join(str(failure).split())[:200]})")


def nothing_private(repo: Subject) -> Iterator[Finding]:
    """Secrets in any file; in all but data, the folders, accounts and hosts of a machine."""
    words = private_words(repo)
    clean: set[tuple[str, bool]] = set()
    for part in repo.parts:
        for name in sorted(part.files):
            if name.endswith((".parquet", ".arrow")):  # compressed or in pieces: looked at as their rows are read
                continue
            content = (part.sha256(name), is_data(repo, part, name))
            if content in clean:  # each branch has a copy of code and tokenizer
                continue
            place, path = part.place(name), part.folder / name
            yield from in_text(name.encode(), place, words, is_data=False, first=False)
            binary = not name.endswith(TEXT_SUFFIXES)
            if binary and name.endswith(".safetensors"):  # the numbers are no text; the header is
                with path.open("rb") as file:
                    length = min(int.from_bytes(file.read(8), "little"), path.stat().st_size)
                    pieces = [file.read(length)]
            else:
                pieces = list(_pieces(path))
            seen: set[str] = set()
            for number, piece in enumerate(pieces):
                for finding in in_text(piece, place, words, is_data=content[1], first=number == 0):
                    if finding.message.partition(";")[0] not in seen:
                        seen.add(finding.message.partition(";")[0])
                        yield finding
            if not seen:
                clean.add(content)


def _absolute(content: Any) -> Iterator[str]:
    """Texts in parsed JSON or YAML that are an absolute path, and nothing else."""
    if isinstance(content, str):
        if WHOLE_PATH.fullmatch(content):
            yield content
    elif isinstance(content, dict | list):
        for value in [*content, *content.values()] if isinstance(content, dict) else content:
            yield from _absolute(value)


def is_data(repo: Subject, part: Part, name: str) -> bool:
    """Whether a file's text is that of a corpus or a model, which may speak of any folder."""
    rows = repo.type == "dataset" and name.endswith(".jsonl") and not name.startswith(f"{EVIDENCE}/")
    return rows or Path(name).name in OF_DATA


def private_words(repo: Subject) -> dict[str, re.Pattern[bytes]]:
    """What names this machine, the user's account and the run, and how each is found."""
    words = {}
    token = get_token()
    if token:
        words["your own access token"] = re.compile(re.escape(token.encode()))
    places = {repo.folder.resolve(), Path.home()} | ({repo.run.root.resolve()} if repo.run else set())
    for place in places:
        if len(place.parts) > 2:
            words[f"the folder {place}"] = re.compile(re.escape(str(place).encode()) + rb"(?![\w-])")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        user = ""
    if len(user) > 2 and user.lower() not in COMMON_NAMES:
        name = re.escape(user.encode())
        # Not the bare word: it is often the name on the Hub as well.
        said = rb"\b(?:user|username|user_name|login|logname|owner)\b[\"']?\s*[:=]\s*[\"']?"
        words["the name of your account"] = re.compile(rb"(?:%s|/home/|/Users/)%s\b|\b%s@" % (said, name, name))
    host = socket.gethostname()
    if len(host) > 4 and host.lower() not in COMMON_NAMES:
        words["the name of this machine"] = re.compile(rb"(?<![\w-])%s(?![\w-])" % re.escape(host.encode()))
    return words


def in_text(
    text: bytes, place: str, words: dict[str, re.Pattern[bytes]], *, is_data: bool, first: bool = True
) -> Iterator[Finding]:
    """Findings in a piece of text; they do not repeat a secret."""
    for what, (beginnings, pattern) in SECRETS.items():
        match = pattern.search(text) if any(beginning in text for beginning in beginnings) else None
        if match is not None:
            line = text.count(b"\n", 0, match.start()) + 1
            where = f"line {line} holds" if first else "holds"
            yield error(place, f"{where} {what}; remove it, and revoke it if it was ever public")
    for what, pattern in words.items():
        if pattern.search(text):
            yield error(place, f"holds {what}; remove it")
    if is_data:
        return
    match = HOME_FOLDER.search(text) if any(home in text for home in HOMES) else None
    if match is not None:
        yield error(place, f"mentions a folder of a machine: {shown(match[0])}; make the path relative")
    match = MACHINE_FOLDER.search(text) if any(folder in text for folder in FOLDERS) else None
    if match is not None:
        yield warning(place, f"mentions a folder of a machine: {shown(match[0])}; make the path relative if it is one")


def shown(text: bytes) -> str:
    return text.decode(errors="replace")


def _pieces(path: Path) -> Iterator[bytes]:
    """A file in pieces that overlap, so that nothing hides at a border."""
    with path.open("rb") as file:
        tail = b""
        while piece := file.read(PIECE):
            yield tail + piece
            tail = piece[-OVERLAP:]
