"""The folder of a Space for the instruct model of a run: app, requirements, examples, report, card.

It is a laid-out repo of the type "space": `hub check` and `hub publish` take it like any other.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_recipes.manifest import MANIFEST_NAME, folder_state, sha256_file, whole_folder, write_manifest
from hub_cards.checks.contents import HOME_FOLDER
from hub_cards.errors import HubError
from hub_cards.repos.files import without_run_path
from hub_cards.repos.folder import CARD_NAME, KIND

APP, SETTINGS, REQUIREMENTS, REPORT = "app.py", "space.json", "requirements.txt", "report.html"
GRADIO = "6.31.0"  # as constraints.txt has it
EXAMPLES = 6
SHORT_DESCRIPTION = "Talk to a model, and see how it was made"  # the Hub takes 60 characters

CARD = """\
---
title: {quoted}
emoji: 💬
colorFrom: indigo
colorTo: blue
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
license: mit
short_description: {short}
models:
- {model}
preload_from_hub:
- {model}
---

# {title}

A chat with [{model}](https://huggingface.co/{model}){report}. The prompts under the chat are questions that the model
was scored on{right}. Answers are as good as the model: its card has the scores, and what it must not be used for.

On a machine of your own:

```bash
pip install gradio=={gradio} -r requirements.txt
python app.py                        # the model from the Hub
MODEL=path/to/folder python app.py   # or one that is here
```
"""


def write_space(out: Path, *, run: Path, model: Path, model_id: str, scores: Path) -> Path:
    """Write the Space of a model folder into `out`, whole or not at all; kept as it is where it is there already.

    `scores`: the model's scores.json, for prompts that it answers. DataError where anything else is in `out`, HubError
    where the model or its scores are missing.
    """
    if not (model / "config.json").is_file():
        raise HubError(f"{model}: no model there. Finish the run first; the same command resumes it.")
    report = run / REPORT
    sources = {"model": model / MANIFEST_NAME, "scores": scores, "report": report}
    inputs = {name: sha256_file(path) for name, path in sources.items() if path.is_file()}
    config = {"type": "space", "branches": [], "name": f"{model_id}-chat", "licence": "mit"}
    if folder_state(out, kind=KIND, made_from={"inputs": inputs, "config": config}) == "finished":
        return out
    right, prompts = example_prompts(scores)
    length = json.loads((model / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    name = model_id.partition("/")[2]
    with whole_folder(out) as folder:
        shutil.copyfile(Path(__file__).with_name(APP), folder / APP)
        settings = {
            "model": model_id,
            "title": name,
            "description": f"A chat with {model_id}. It answers best what it was trained on: see the prompts.",
            "examples": prompts,
            "tokens": min(256, length // 2),
            "most_tokens": length // 2,
        }
        (folder / SETTINGS).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / REQUIREMENTS).write_text(requirements(), encoding="utf-8")
        if report.is_file():
            text = without_run_path(report.read_text(encoding="utf-8"), run)
            # Texts that the model was given may name a home as well: the first line of a script does.
            (folder / REPORT).write_bytes(HOME_FOLDER.sub(b"~/", text.encode()))
        card = CARD.format(
            title=name,
            quoted=json.dumps(name),  # YAML would read some names as numbers
            gradio=GRADIO,
            short=SHORT_DESCRIPTION,
            model=model_id,
            report=", and the report of the run that made it" if report.is_file() else "",
            right=" and answers right" if right else "; it answers none of them right",
        )
        (folder / CARD_NAME).write_text(card, encoding="utf-8")
        write_manifest(folder, kind=KIND, inputs=inputs, config=config, counts={"examples": len(prompts)})
    return out


def example_prompts(scores: Path) -> tuple[bool, list[str]]:
    """Prompts that the model was asked, one of each kind and language first; whether it answers them right."""
    if not scores.is_file():
        raise HubError(f"{scores}: no scores there. Score the model first: its example prompts are from them.")
    samples = json.loads(scores.read_text(encoding="utf-8")).get("samples", [])
    right = [sample for sample in samples if sample.get("correct")]
    chosen = spread(right or samples)
    if not chosen:
        raise HubError(f"{scores}: no sample of a question, so there is no prompt to offer.")
    return bool(right), [sample["prompt"] for sample in chosen[:EXAMPLES]]


def spread(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Samples in an order in which kinds and languages that were not there yet come first."""
    seen: dict[tuple[Any, Any], int] = {}
    ranked = []
    for sample in samples:
        key = (sample.get("kind"), sample.get("language"))
        ranked.append((seen.get(key, 0), sample))
        seen[key] = seen.get(key, 0) + 1
    return [sample for _, sample in sorted(ranked, key=lambda entry: entry[0])]


def requirements() -> str:
    """The libraries that the app needs beside gradio, as they are installed here, without this machine's build."""
    return "".join(f"{name}=={re.split('[+]', version(name))[0]}\n" for name in ("torch", "transformers"))
