"""Tokenizers: each id has a row of the embedding, text survives, and the chat template renders."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from data_recipes.errors import first_line
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, read_mapping

TOKENIZER, TOKENIZER_CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
FILES = (TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", TEMPLATE)
CONFIG, GENERATION = "config.json", "generation_config.json"
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
TEXTS = ("The tide comes in twice a day.", "水往低处流，人往高处走。", "def f(x):\n    return x + 1\n")
DIALOGUES = (
    [{"role": "user", "content": "What is 3 + 4?"}],
    [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "3 + 4 是多少？"},
        {"role": "assistant", "content": "7"},
        {"role": "user", "content": "And twice that?"},
    ],
)


def tokenizers_fit(repo: Subject) -> Iterator[Finding]:
    """Every model has a tokenizer that loads, whose ids its embedding has; a data set's own loads."""
    for part in [*repo.models, *(part for part in [repo.main.below("tokenizer")] if part.files)]:
        place = part.place(TOKENIZER)
        if TOKENIZER not in part.files:
            yield error(place, "missing")
            continue
        try:
            tokenizer = tokenizer_of(repo, part)
        except Exception as failure:  # whatever libraries stumble over in a broken file
            yield error(place, f"cannot be loaded ({first_line(failure)})")
            continue
        for file, problem in repo.once("tokens", _digest(part), partial(_text_problems, tokenizer)):
            yield error(part.place(file or (TEMPLATE if TEMPLATE in part.files else TOKENIZER_CONFIG)), problem)
        yield from _two_templates(part)
        if part.name == "tokenizer" or CONFIG not in part.files:
            continue
        try:
            config = read_mapping(part.folder / CONFIG)
        except Unreadable:
            continue
        highest, word = repo.once("ids", _digest(part), partial(_highest_id, tokenizer))
        if isinstance(config.get("vocab_size"), int) and highest >= config["vocab_size"]:
            yield error(place, f"gives the id {highest} ({word!r}), the model's vocabulary has {config['vocab_size']}")
        yield from _special_findings(part, config, tokenizer)


def _two_templates(part: Part) -> Iterator[Finding]:
    """Some readers take the template of the file, others that of the config."""
    if TEMPLATE in part.files and TOKENIZER_CONFIG in part.files:
        try:
            inside = read_mapping(part.folder / TOKENIZER_CONFIG).get("chat_template")
        except Unreadable:
            return
        if inside is not None and inside != (part.folder / TEMPLATE).read_text(encoding="utf-8"):
            yield error(part.place(TOKENIZER_CONFIG), f"its chat_template is not that of {TEMPLATE}; remove it here")


def tokenizer_of(repo: Subject, part: Part) -> Any:
    """The tokenizer of a part, loaded once for all that have the same files."""
    return repo.once("tokenizer", _digest(part), partial(_load, part.folder))


def _load(folder: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # Of a model's folder AutoTokenizer would read the config, and with it which class it is.
    if (folder / TOKENIZER_CONFIG).is_file():
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _digest(part: Part) -> str:
    return " ".join(part.sha256(name) for name in FILES if name in part.files)


def _highest_id(tokenizer: Any) -> tuple[int, str]:
    words = tokenizer.get_vocab()
    return max((number, word) for word, number in words.items()) if words else (-1, "")


def _special_findings(part: Part, config: dict[str, Any], tokenizer: Any) -> Iterator[Finding]:
    """The special ids of config and generation config are ids, and of the tokens that the tokenizer means."""
    try:
        generation = read_mapping(part.folder / GENERATION) if GENERATION in part.files else {}
    except Unreadable:
        generation = {}
    for name, content in ((CONFIG, config), (GENERATION, generation)):
        for key in SPECIAL:
            given = content.get(key)
            ids = given if isinstance(given, list) else [] if given is None else [given]
            ours = getattr(tokenizer, key)
            for one in ids:
                if type(one) is not int or not 0 <= one < config.get("vocab_size", 0):
                    yield error(part.place(name), f"{key} {one!r} is no id of the vocabulary")
            if ids and ours is not None and ours not in ids:
                yield error(
                    part.place(name), f"{key} {given}, the tokenizer's is {ours} ({tokenizer.decode([ours])!r})"
                )


def _text_problems(tokenizer: Any) -> list[tuple[str, str]]:
    """(file, message) of a tokenizer that loses text; without a file, of a chat template that does not render."""
    problems = []
    for text in TEXTS:
        try:
            ids = tokenizer.encode(text, add_special_tokens=False)
            back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        except Exception as failure:  # as above
            problems.append((TOKENIZER, f"cannot encode {text[:20]!r} ({first_line(failure)})"))
            continue
        if not ids:
            problems.append((TOKENIZER, f"makes no token of {text[:20]!r}"))
        elif back.strip() != text.strip() and tokenizer.unk_token_id not in ids:
            problems.append((TOKENIZER, f"makes {back[:20]!r} of {text[:20]!r}: text does not survive"))
    if tokenizer.chat_template:
        problems += [("", problem) for problem in _template_problems(tokenizer)]
    return problems


def _template_problems(tokenizer: Any) -> Iterator[str]:
    """transformers renders templates in Jinja's sandbox; what is unsafe there raises."""
    for dialogue in DIALOGUES:
        texts = {}
        for prompt in (False, True):
            try:
                texts[prompt] = tokenizer.apply_chat_template(dialogue, tokenize=False, add_generation_prompt=prompt)
            except Exception as failure:  # of Jinja, or of what the template calls
                yield f"the chat template does not render {len(dialogue)} message(s) ({first_line(failure)})"
                return
        lost = [message["content"] for message in dialogue if message["content"] not in texts[False]]
        if lost:
            yield f"the chat template leaves out {lost[0]!r}"
        if not texts[True].startswith(texts[False]) or texts[True] == texts[False]:
            yield "the chat template adds nothing for add_generation_prompt, so the model is not asked to answer"
            return
