"""Variety by tags (InsTag, Lu et al. 2023): dialogues are taken as long as they add to the tags seen.

Tags come with the data, or from a model that is asked what an instruction wants. They are brought to one form (lower
case, punctuation as spaces), and rare ones are noise. InsTag also merges tags of like meaning, by an embedding and by
association rules; that is not done here.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import orjson

from data_recipes.endpoint.client import ask_all, check_endpoint
from data_recipes.endpoint.kept import KeptAnswers
from data_recipes.endpoint.request import Answer, Request
from data_recipes.instruct.messages import Message
from train.selection.config import TaggerSettings

TAG_PROMPT = """\
Below is an instruction to an assistant. Name what a good answer to it needs: its task, subject, skills and form, each
as a tag of one to three words. Give two to eight tags as a JSON list of texts, in English, and nothing else.

[Instruction]
{instruction}
[/Instruction]"""
TAG_SETTINGS = {"temperature": 0.0, "max_tokens": 200}
MOST_TAGS = 16
LONGEST_INSTRUCTION = 8000


def ask_for_tags(dialogues: Sequence[Sequence[Message]], settings: TaggerSettings, kept: Path) -> list[list[str]]:
    """The tags of each dialogue by a model on a server; none where it gives none. Answers are kept in the file `kept`.

    `DataError` where there is no such server or model.
    """
    check_endpoint(settings.endpoint, settings.model)
    requests = [
        Request(settings.model, ({"role": "user", "content": tag_question(messages)},), TAG_SETTINGS)
        for messages in dialogues
    ]
    with KeptAnswers(kept) as answers:
        found = ask_all(requests, settings.endpoint, kept=answers, concurrency=settings.concurrency)
    return [(read_tags(one.text) or []) if isinstance(one, Answer) else [] for one in found]


def tag_question(messages: Sequence[Message]) -> str:
    """What the tagger is asked: the first of the user's turns decides what is wanted."""
    instruction = next((message["content"] for message in messages if message["role"] == "user"), "")
    return TAG_PROMPT.format(instruction=instruction[:LONGEST_INSTRUCTION])


def read_tags(answer: str) -> list[str] | None:
    """The tags in a tagger's answer, None where it holds no list of texts."""
    found = re.search(r"\[[^\[\]]*\]", answer, re.DOTALL)
    if found is None:
        return None
    try:
        listed = orjson.loads(found.group())
    except orjson.JSONDecodeError:
        return None
    return listed if listed and len(listed) <= MOST_TAGS and all(isinstance(tag, str) for tag in listed) else None


def normal_tag(tag: str) -> str:
    return " ".join(re.sub(r"[^\w+#]+", " ", unicodedata.normalize("NFKC", tag).lower()).replace("_", " ").split())


def frequent_tags(tags: Sequence[Sequence[str]], min_count: int) -> list[frozenset[str]]:
    """Each one's tags in one form, without those that fewer than `min_count` have."""
    normal = [frozenset(filter(None, map(normal_tag, listed))) for listed in tags]
    counts = Counter(tag for listed in normal for tag in listed)
    return [frozenset(tag for tag in listed if counts[tag] >= min_count) for listed in normal]


def varied(tags: Sequence[frozenset[str]], count: int, *, complex_first: bool) -> list[int]:
    """`count` places in the order in which they are taken: one that has a tag not seen yet, and from the start again
    with nothing seen once none has (InsTag, algorithm 1). What has no tags at all comes last.

    `complex_first`: those with the most tags are looked at first, else in the given order.
    """
    left = sorted(range(len(tags)), key=lambda place: -len(tags[place])) if complex_first else list(range(len(tags)))
    taken: list[int] = []
    while left and len(taken) < count:
        seen: set[str] = set()
        passed_over = []
        for place in left:
            if len(taken) < count and not tags[place] <= seen:
                seen |= tags[place]
                taken.append(place)
            else:
                passed_over.append(place)
        if len(passed_over) == len(left):  # none of them has a tag
            taken += left[: count - len(taken)]
            break
        left = passed_over
    return taken
