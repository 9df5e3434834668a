"""What the guard over single rows finds and costs, on the miniature: false alarms, strange rows found, share of a step.

    python benchmarks/row_guard.py --run runs/tiny --steps 972 --out row_guard.json

Trains on a run's packed rows as `yulanmini reproduce` does, one thread, with the settings as they are. After each step
one of its rows, drawn at random, is replaced by a strange one in what the guard is shown, and the loss of the step by
what it would have been; nothing of that is trained on. Cost is the guard's processor time in
a step over that of the step, medians.
"""

import argparse
import json
import random
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import torch

import train.run.run
from data_recipes.manifest import check_new_file
from train.pretrain import main as pretrain
from train.run.log import RunLog
from train.spikes.guard import SpikeGuard
from train.spikes.row_guard import RowGuard
from yulanmini.run_layout import DATA, TOKENIZER

KINDS = ("random tokens", "second half random", "shuffled")


class WatchedGuard(RowGuard):
    """The guard, timed, and shown a step with a strange row in it beside each that is judged."""

    found: ClassVar[dict[str, list[tuple[bool, bool]]]] = {kind: [] for kind in KINDS}  # by its rows, by its loss
    spent: ClassVar[list[float]] = []  # by the guard in each step
    steps: ClassVar[list[float]] = []  # processor time at the beginning of each, without what is only watched
    watching = 0.0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._of_losses = SpikeGuard(self._settings, torch.device("cpu"))
        self._draw = random.Random(0)

    def reset(self) -> None:
        super().reset()
        self._of_losses.reset()

    def before_step(self) -> None:
        super().before_step()
        WatchedGuard.spent.append(0.0)
        WatchedGuard.steps.append(time.process_time() - WatchedGuard.watching)

    def before_forward(self, batch: Any) -> None:
        super().before_forward(batch)
        self._example = batch.input_ids[:1]

    def _measure(self, hidden_states: torch.Tensor, batch: Any) -> None:
        began = time.process_time()
        super()._measure(hidden_states, batch)
        WatchedGuard.spent[-1] += time.process_time() - began

    def judge(self, losses: torch.Tensor, domains: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        began = time.process_time()
        if int(self._count) >= self._settings.min_steps:
            place = self._draw.randrange(len(losses))
            for kind, strange in zip(KINDS, self._strange_losses(), strict=True):
                shown = losses.clone()
                shown[place] = strange
                by_rows = bool(super().judge(shown, domains)[0])
                before = self._of_losses.state_dict()
                by_loss = bool(self._of_losses.check(shown.mean(), torch.ones(())))
                self._of_losses.load_state_dict(before)
                WatchedGuard.found[kind].append((by_rows, by_loss))
        self._of_losses.check(losses.mean(), torch.ones(()))
        WatchedGuard.watching += time.process_time() - began
        began = time.process_time()
        verdict = super().judge(losses, domains)
        WatchedGuard.spent[-1] += time.process_time() - began
        return verdict

    @torch.no_grad()
    def _strange_losses(self) -> torch.Tensor:
        """Mean loss over the row of one row of each of `KINDS`."""
        row, vocabulary = self._example[0], self._model.config.vocab_size
        noise = torch.tensor(self._draw.choices(range(vocabulary), k=len(row)))
        half = torch.cat([row[: len(row) // 2], noise[len(row) // 2 :]])
        shuffled = row[torch.tensor(self._draw.sample(range(len(row)), len(row)))]
        ids = torch.stack([noise, half, shuffled])
        self._model.eval()
        logits = self._model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        self._model.train()
        return torch.nn.functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none").mean(dim=1)


def watch(run: Path, steps: int, folder: Path) -> dict[str, Any]:
    """Train for `steps` steps with the watched guard."""
    train.run.run.RowGuard = WatchedGuard  # type: ignore[misc]
    config = Path(train.run.run.__file__).parents[1] / "configs" / "tiny.yaml"
    settings = [f"output_dir={folder}", f"tokenizer={run / TOKENIZER}", f"data.dir={run / DATA}", f"max_steps={steps}"]
    settings += ["heldout=null", "threads=1", "device=cpu", "monitors.names=[]", "export.phase_ends=false"]
    if pretrain([str(config), "--set", *settings]):
        raise SystemExit("the training did not run; its message is above")
    records = RunLog(folder / "metrics.jsonl").lines()
    judged = len(WatchedGuard.found[KINDS[0]])
    whole = [after - before for before, after in pairwise(WatchedGuard.steps)]
    return {
        "share_of_a_step": median(WatchedGuard.spent) / median(whole),
        "step_seconds": median(whole),
        "steps": len(records),
        "judged": judged,
        "false_alarms": sum(bool(record.get("spike")) for record in records),
        "largest_clean_deviation": max(record["row_deviations"] or 0 for record in records),
        "found_by_rows": {kind: sum(a for a, _ in found) / judged for kind, found in WatchedGuard.found.items()},
        "found_by_loss": {kind: sum(b for _, b in found) / judged for kind, found in WatchedGuard.found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="folder of `yulanmini reproduce`")
    parser.add_argument("--steps", type=int, default=972)
    parser.add_argument("--out", type=Path, help="JSON to write")
    options = parser.parse_args()
    if options.out is not None:
        check_new_file(options.out)
    with tempfile.TemporaryDirectory() as folder:
        result = watch(options.run, options.steps, Path(folder) / "run")
    text = json.dumps(result, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
