"""Each model of a repo is asked to go on with a few tokens.

The first of each config is loaded as a reader would load it; the weights of the others, whose names and shapes another
check compares with the config, are put into that one, which takes a hundredth of the time.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_recipes.errors import first_line
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, warning
from hub_cards.checks.tokenizer import tokenizer_of
from hub_cards.checks.weights import stored_tensors

PROMPT = "The tide comes in"
NEW_TOKENS = 4
SECONDS = 120.0  # after which a model that is still writing is stopped; it has shown that it can


def models_generate(repo: Subject) -> Iterator[Finding]:
    """Every model loads with the installed classes, running no code of the repo, and writes."""
    if not repo.models:
        return
    if not repo.generate:
        yield warning(repo.main.place("config.json"), "no model was asked to generate (--skip-generation)")
        return
    sizes = {part.name: sum((part.folder / name).stat().st_size for name in _weights(part)) for part in repo.models}
    known: set[tuple[str, ...]] = set()
    held: dict[str, Any] = {}
    with repo.bar(sum(sizes.values()), "generate") as bar:
        for part in repo.models:
            bar.update(sizes[part.name])
            digest = tuple(part.sha256(name) for name in sorted({"config.json", *_weights(part)} & part.files))
            if digest in known or not stored_tensors(repo, part):
                continue  # the same model again, or files that other checks have told of
            known.add(digest)
            try:
                problem = _problem(repo, part, held)
            except Exception as failure:  # whatever transformers raises of a broken model
                problem = f"cannot be loaded and asked ({first_line(failure)})"
            if problem is not None:
                yield error(part.place("config.json"), problem)


def _weights(part: Part) -> list[str]:
    return [name for name in part.matching(".safetensors") if "/" not in name]


def _problem(repo: Subject, part: Part, held: dict[str, Any]) -> str | None:
    import torch

    model = _model_of(repo, part, held)
    try:
        ids = tokenizer_of(repo, part)(PROMPT, return_tensors="pt", return_token_type_ids=False)["input_ids"]
    except Exception:  # told by the check of the tokenizer
        ids = torch.zeros(1, 0, dtype=torch.long)
    ids = ids.clamp(max=model.config.vocab_size - 1) if ids.numel() else torch.zeros(1, 1, dtype=torch.long)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = torch.ones_like(ids)
        logits = model(input_ids=ids, attention_mask=mask).logits
        if not bool(torch.isfinite(logits).all()):
            return f"gives NaN or infinity for {PROMPT!r}"
        written = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            max_time=SECONDS,
            pad_token_id=0,
        )
    return None if written.shape[1] > ids.shape[1] else "writes nothing"


def _model_of(repo: Subject, part: Part, held: dict[str, Any]) -> Any:
    """The model of a part, in the memory of the one before where the config is the same."""
    configs = " ".join(part.sha256(name) for name in ("config.json", "generation_config.json") if name in part.files)
    if configs in held:
        _fill(held[configs], part, {name: file for name, (file, _) in stored_tensors(repo, part).items()})
    else:
        held.clear()  # one at a time
        held[configs] = load(part.folder)
    return held[configs]


def _fill(model: Any, part: Part, files: dict[str, str]) -> None:
    """Put the stored tensors of a part in the place of a model's own."""
    import torch
    from safetensors import safe_open

    from modeling_yulanmini.modeling_yulanmini import saved_name

    parameters = {saved_name(name): tensor for name, tensor in model.named_parameters()}
    opened = {name: safe_open(part.folder / name, framework="pt") for name in set(files.values())}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(opened[files[name]].get_tensor(name).view_as(parameter))


def load(folder: Path) -> Any:
    """The model of a folder by the installed classes; the repo's own code is not run.

    Raises where weights are missing or left over, which `from_pretrained` only warns of.
    """
    from transformers import AutoModelForCausalLM

    import modeling_yulanmini  # noqa: F401 - registers its classes

    with _quiet():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", trust_remote_code=False, local_files_only=True, output_loading_info=True
        )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[what]:
            raise Unreadable(f"{what.replace('_', ' ')}: {', '.join(map(str, sorted(info[what], key=str)[:4]))}")
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bar for each model, and without its warnings: what they say is a finding here."""
    from transformers.utils import logging

    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
