"""The prompts of the kinds, this project's own: `KIND.jinja`, or `KIND/PART.jinja` where a kind asks several things.

A prompt's version is its content: a changed one is another request, so no kept answer is taken for it. What a seed
holds is put in as it is and never read as a template.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import xxhash
from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent
# A line of a prompt this long that is found in an answer was copied from it; shorter ones may be said by chance.
ECHO_CHARACTERS = 40
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


def prompt(name: str, **values: Any) -> str:
    """The prompt `name` (`KIND` or `KIND/PART`) with its marks replaced."""
    return _ENVIRONMENT.get_template(f"{name}.jinja").render(values).strip()


def prompt_files(kind: str) -> Mapping[str, Path]:
    """The files of a kind's prompts by name."""
    found = sorted([*FOLDER.glob(f"{kind}.jinja"), *FOLDER.glob(f"{kind}/*.jinja")])
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in found}


def prompt_version(kind: str) -> str:
    """16 hexadecimal digits, of the content of a kind's prompts."""
    content = xxhash.xxh3_64()
    for name, path in prompt_files(kind).items():
        content.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()


@cache
def instruction_lines(kind: str) -> tuple[str, ...]:
    """The lines of a kind's prompts that no answer would hold by chance."""
    lines = (line.strip() for path in prompt_files(kind).values() for line in path.read_text("utf-8").splitlines())
    return tuple(dict.fromkeys(line for line in lines if len(line) >= ECHO_CHARACTERS and "{{" not in line))
