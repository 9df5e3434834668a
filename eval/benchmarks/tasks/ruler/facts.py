"""The two kinds of RULER that ask about documents: one fact, or one that two documents give together.

RULER takes SQuAD and HotpotQA; here people who never lived have their facts generated, so nothing is fetched and
nothing can be known beforehand.
"""

import random
from typing import Any

from eval.benchmarks.tasks.ruler.haystack import Frame, Needle, build
from eval.benchmarks.tasks.ruler.words import ADJECTIVES, NAMES, NOUNS, PLACES, distinct, sentence, word_pair

ASK = "Answer the question based on the given documents. Only give me the answer and do not output any other words."


def person(rng: random.Random) -> str:
    return f"{rng.choice(NAMES)} {(rng.choice(ADJECTIVES) + rng.choice(NOUNS)).capitalize()}"


def town(rng: random.Random) -> str:
    return f"{rng.choice(ADJECTIVES).capitalize()} {rng.choice(NOUNS).capitalize()}"


def document_question(rng: random.Random, tokenizer: Any, length: int, *, hops: int = 1) -> dict[str, Any]:
    """What a person invented (one hop), or where the teacher of a person was born (two), among other documents."""
    people = distinct(person, 64 + length // 20, rng)
    inventions = distinct(lambda source: word_pair(source).replace("-", " "), len(people), rng)
    towns = distinct(town, len(people), rng)
    following = rng.sample(range(len(people)), len(people))
    place_in = {who: place for place, who in enumerate(following)}

    def teacher(who: int) -> int:
        """Everyone is taught by the next in one circle, so nobody by themselves, and nobody teaches two."""
        return following[(place_in[who] + 1) % len(people)]

    def document(who: int) -> str:
        facts = [
            f"{people[who]} was born in {towns[who]}.",
            f"{people[who]} invented the {inventions[who]}.",
            f"{people[who]} was taught by {people[teacher(who)]}.",
        ]
        rng.shuffle(facts)
        told = f"{people[who]} lived near {rng.choice(PLACES)}. {facts[0]} {sentence(rng)} {facts[1]}"
        return f"Document:\n{told} {sentence(rng)} {facts[2]} {sentence(rng)}"

    asked = 0
    gold = [asked] if hops == 1 else [asked, teacher(asked)]
    others = iter([who for who in range(len(people)) if who not in gold])
    if hops == 1:
        question, answer = f"What did {people[asked]} invent?", inventions[asked]
    else:
        question, answer = f"Where was the teacher of {people[asked]} born?", towns[gold[1]]
    frame = Frame(
        before=f"{ASK}\n\nThe following are given documents.\n\n",
        after=f"\n\n{ASK}\n\nQuestion: {question}",
        answer_start="Answer:",
        new_tokens=32,
        joiner="\n\n",
    )
    texts = [document(who) for who in gold]
    needles = [Needle(text, rng.random()) for text in texts]
    built = build(tokenizer, frame, length=length, needles=needles, filler=lambda: document(next(others)))
    return built | {"outputs": [answer], "needles": texts}
