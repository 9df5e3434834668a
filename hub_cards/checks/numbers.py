"""Numbers: the card is written anew from the repo's own evidence and compared, and the evidence with the run."""

from collections.abc import Iterator

from hub_cards.cards.card import trace
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, read_mapping
from hub_cards.repos.folder import CARD_NAME, EVIDENCE, MAIN, PROVENANCE_NAME

MOST_TOLD = 8


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
        yield from _strays(part)
        problems = trace(part.folder, repo.run)
        for problem in problems[:MOST_TOLD]:
            name, colon, message = problem.partition(": ")
            is_file = bool(colon) and " " not in name and "/" not in name.lstrip("/")
            yield error(part.place(name if is_file else PROVENANCE_NAME), message if is_file else problem)

        if problems:
            more = f"and {len(problems) - MOST_TOLD} more differences. " if len(problems) > MOST_TOLD else ""
            advice = "`yulanmini hub card FOLDER --write` makes the card of these files with this version"
            yield error(part.place(CARD_NAME), f"{more}Compare it with the files in {EVIDENCE}/; {advice}")


def _strays(part: Part) -> Iterator[Finding]:
    """Files among the evidence that no number of the card is from."""
    try:
        recorded = read_mapping(part.folder / PROVENANCE_NAME).get("files", {})
        known = {record["at"] for record in recorded.values()}
    except (Unreadable, AttributeError, KeyError, TypeError):
        return  # told by the comparison
    for name in sorted(part.files):
        if name.startswith(f"{EVIDENCE}/") and name not in known:
            yield error(part.place(name), f"{PROVENANCE_NAME} does not name it: no number is from it; remove it")
