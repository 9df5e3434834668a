"""Numbers: the card is written anew from the repo's own evidence and compared, and the evidence with the run."""

from collections.abc import Iterator

from hub_cards.cards.card import trace
from hub_cards.checks.subject import Finding, Subject, error
from hub_cards.repos.folder import CARD_NAME, MAIN, PROVENANCE_NAME


def numbers_trace(repo: Subject) -> Iterator[Finding]:
    """Each card is the one that the files in the repo give, outside of its owner's words: nothing invented, edited or
    left out. With a run, these files are its files."""
    if repo.type == "space":
        return
    for part in repo.parts:
        if CARD_NAME not in part.files:
            continue
        if PROVENANCE_NAME not in part.files:
            if part.name == MAIN or PROVENANCE_NAME in repo.main.files:
                yield error(part.place(PROVENANCE_NAME), "missing: nothing says where the numbers of the card are from")
            continue
        for problem in trace(part.folder, repo.run):
            name, colon, message = problem.partition(": ")
            is_file = bool(colon) and " " not in name and "/" not in name.lstrip("/")
            yield error(part.place(name if is_file else PROVENANCE_NAME), message if is_file else problem)
