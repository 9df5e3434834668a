"""What studies ask of a small base model: its loss on held-out text by domain, and the problems that it solves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.manifest import read_manifest


@dataclass(frozen=True)
class ModelScores:
    """Called with a model's folder, in whichever process has one. `per_kind`: unseen problems of each kind of level 1,
    answered greedily; None: all."""

    corpus: Path
    context: int
    bytes_per_domain: int
    per_kind: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """How it asks and of which corpus, for a study's result."""
        return {**vars(self), "corpus": read_manifest(self.corpus)["fingerprint"]}

    def __call__(self, model: Path) -> dict[str, Any]:
        """`heldout`: nats a token by domain; `solved` of `problems`, and the `chance` share."""
        import torch

        from eval.model_loading import load_model
        from eval.tasks.heldout import Heldout
        from eval.tasks.problems import Problems

        torch.set_num_threads(1)
        loaded = load_model(model, device="cpu")
        heldout = Heldout(context=self.context, bytes_per_domain=self.bytes_per_domain)
        rows = heldout.score(loaded, heldout.read(self.corpus)).rows
        task = Problems(prompt="question", per_kind=self.per_kind)
        problems = [problem for problem in task.read(self.corpus) if problem["level"] == 1]
        answers = task.answers(loaded, problems)
        return {
            "heldout": {row["group"]: row["loss"] for row in rows},
            "solved": sum(answer["correct"] for answer in answers),
            "problems": len(answers),
            "chance": sum(answer["chance"] for answer in answers) / len(answers),
        }
