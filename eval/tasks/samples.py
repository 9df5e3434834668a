"""A few answers and continuations to look at: not selected by how good they are."""

from collections.abc import Sequence
from typing import Any

from eval.generation import generate_greedy, tokens_cut
from eval.model_loading import LoadedModel
from eval.tasks.heldout import start_tokens

PROBLEMS_SHOWN = 8
CONTINUATION_CHARACTERS = {"en": 160, "zh": 60}
CONTINUATION_TOKENS = 48
SHOWN = ("prompt", "output", "expected", "correct", "language", "tokens_cut")


def problem_samples(answers: Sequence[dict[str, Any]], *, count: int = PROBLEMS_SHOWN) -> list[dict[str, Any]]:
    """The first answer of kinds spread over the levels, English and Chinese in turn; easiest first."""
    chosen: list[dict[str, Any]] = []
    kinds = sorted({(answer["level"], answer["kind"]) for answer in answers})
    step = max(1, len(kinds) // count)
    for index, (_, kind) in enumerate(kinds[::step][:count]):
        language = ("en", "zh")[index % 2]
        of_kind = [answer for answer in answers if answer["kind"] == kind]
        chosen.append(next((answer for answer in of_kind if answer["language"] == language), of_kind[0]))
    return [{key: answer[key] for key in SHOWN} for answer in chosen]


def continuation_samples(
    loaded: LoadedModel, texts: dict[str, list[str]], *, start: str = "eos"
) -> list[dict[str, Any]]:
    """The beginning of each domain's first held-out document and how the model goes on."""
    domains, beginnings = [], []
    for domain, documents in texts.items():
        language = "zh" if domain.endswith("zh") else "en"
        beginning = documents[0][: CONTINUATION_CHARACTERS[language]]
        # To the end of a word, so that the model is not asked to finish half of one.
        domains.append((domain, language))
        beginnings.append(beginning.rsplit(" ", 1)[0] if language == "en" else beginning)
    before = start_tokens(loaded.tokenizer, start)
    prompts = [[*before, *ids] for ids in loaded.tokenizer(beginnings, add_special_tokens=False)["input_ids"]]
    outputs = generate_greedy(loaded, prompts, max_new_tokens=CONTINUATION_TOKENS)
    return [
        {
            "prompt": beginning,
            "output": output,
            "expected": None,
            "correct": None,
            "language": language,
            "domain": domain,
            "tokens_cut": tokens_cut(loaded, ids, CONTINUATION_TOKENS),
        }
        for (domain, language), beginning, output, ids in zip(domains, beginnings, outputs, prompts, strict=True)
    ]
