"""Names of checkpoint revisions: `phase07-step000245-tokens878K`, the same form for every phase and every scale."""

import re

from hub_cards.errors import HubError

PATTERN = re.compile(r"phase(?P<phase>\d{2})-step(?P<step>\d{6,})-tokens(?P<tokens>\d+(?:\.\d+)?[KMBT]?)")
UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def short_count(tokens: int) -> str:
    """A count with three significant digits and a unit: 1,080,000,000,000 -> 1.08T."""
    for size, unit in UNITS:
        if round(tokens / size, 2) >= 1:
            return f"{float(f'{tokens / size:.3g}'):g}{unit}"
    return str(tokens)


def revision_name(phase: int, step: int, tokens: int) -> str:
    """The branch of the checkpoint at the end of `phase`, after `step` updates on `tokens` tokens."""
    return f"phase{phase:02d}-step{step:06d}-tokens{short_count(tokens)}"


def parse_revision(name: str) -> tuple[int, int]:
    """(phase, step) of a revision's name; HubError for a name of another form."""
    match = PATTERN.fullmatch(name)
    if match is None:
        raise HubError(f"revision '{name}': expected a name like phase07-step000245-tokens878K.")
    return int(match["phase"]), int(match["step"])
