"""How a base model continues the beginning of each domain's first held-out document: samples to look at, no scores."""

from pathlib import Path
from typing import Any

from eval.generation import generate, tokens_cut
from eval.model_loading import LoadedModel
from eval.tasks.base import Task, TaskResult
from train.scoring.heldout import heldout_texts

CHARACTERS = {"en": 160, "zh": 60}
NEW_TOKENS = 48
SAMPLED_BYTES = 8_000  # an eighth of it holds the beginning of a document


class Continuations(Task):
    """None of a model that is asked through a chat template: it was not trained to continue text."""

    name = "continuations"

    def read(self, data: Path) -> dict[str, list[str]]:
        return heldout_texts(data / "heldout", bytes_per_domain=SAMPLED_BYTES)

    def score(self, loaded: LoadedModel, inputs: dict[str, list[str]], *, progress: bool = False) -> TaskResult:
        samples: list[dict[str, Any]] = []
        for domain, documents in inputs.items() if self.prompt == "question" else ():
            language = "zh" if domain.endswith("zh") else "en"
            beginning = documents[0][: CHARACTERS[language]]
            if language == "en":  # to the end of a word, so that the model is not asked to finish half of one
                beginning = beginning.rsplit(" ", 1)[0]
            samples.append({"prompt": beginning, "language": language, "domain": domain})
        before = self.start_tokens(loaded.tokenizer)
        prompts = [
            before + loaded.tokenizer(sample["prompt"], add_special_tokens=False)["input_ids"] for sample in samples
        ]
        outputs = generate(loaded, prompts, max_new_tokens=NEW_TOKENS, batch_size=self.batch_size)
        for sample, ids, output in zip(samples, prompts, outputs, strict=True):
            cut = tokens_cut(loaded, ids, NEW_TOKENS)
            sample |= {"output": output, "expected": None, "correct": None, "tokens_cut": cut}
        return TaskResult([], samples)
