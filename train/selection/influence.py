"""The influence of training on each candidate on each target: LESS, equation 3 and definition 3.1.

Sum over the warm-up's epochs of their mean rate, times the cosine between the update that Adam would make of the
candidate's gradient and the mean gradient of the target's examples.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from data_recipes.files import write_whole
from train.errors import TrainError
from train.selection.config import SelectConfig
from train.selection.gradients import AdapterGradients, Sketch, sketched_gradients
from train.selection.rows import batches
from train.selection.warm_up import Epoch, adapted_model, load_epoch, trained


class Measure:
    """A model with its adapters at one epoch after the other, ready for gradients of rows."""

    def __init__(self, config: SelectConfig, warm_up: Path, pad_id: int, device: torch.device) -> None:
        self.config, self.pad_id, self.device = config, pad_id, device
        self.model = adapted_model(config, device).eval()
        self.parameters = trained(self.model)
        self.gradients = AdapterGradients(self.model)
        sizes = {name: parameter.numel() for name, parameter in self.parameters.items()}
        self.sketch = Sketch(sizes, config.dimension, seed=config.seed, device=device)
        self.warm_up = warm_up

    def at(self, epoch: int) -> Epoch:
        """Put the adapters as they were after this epoch, from 1, into the model."""
        loaded = load_epoch(self.warm_up / f"epoch-{epoch}", self.config, self.device)
        for name, parameter in self.parameters.items():
            parameter.data.copy_(loaded.adapter[name])
        return loaded

    def sketches(self, rows: list[dict[str, Any]], epoch: Epoch | None) -> torch.Tensor:
        """float32 [rows, dimension] on the device; with `epoch` of Adam's updates, else of plain gradients."""
        found = torch.empty(len(rows), self.sketch.dimension, device=self.device)
        for places, batch in batches(rows, self.config.micro_batch_size, self.pad_id, self.device):
            moments = None if epoch is None else epoch.moments
            found[places] = sketched_gradients(self.model, self.gradients, self.sketch, batch, moments)
        if not torch.isfinite(found).all():
            bad = rows[int((~torch.isfinite(found).all(dim=1)).nonzero()[0])]
            raise TrainError(f"{bad['source']}, dialogue {bad['number'] + 1}: its gradient is not finite.")
        return found


def measure_targets(measure: Measure, targets: Path, names: list[str], out: Path) -> None:
    """Write the direction of each target's mean gradient at each epoch: float32 [epochs, targets, dimension]."""
    rows = pq.read_table(targets).to_pylist()
    directions = []
    for number in range(1, measure.config.warm_up.epochs + 1):
        measure.at(number)
        of_epoch = []
        for name in names:
            own = [row for row in rows if row["source"] == name]
            total = torch.zeros(measure.sketch.dimension, device=measure.device)
            for first in range(0, len(own), measure.config.micro_batch_size):
                part = own[first : first + measure.config.micro_batch_size]
                total += measure.sketches(part, None).sum(dim=0)
            of_epoch.append(torch.nn.functional.normalize(total, dim=0))
        directions.append(torch.stack(of_epoch))
    write_array(out, torch.stack(directions).cpu().numpy())


def measure_candidates(measure: Measure, candidates: Path, directions: np.ndarray, out: Path) -> None:
    """Write the influence of a file of candidates on each target: float32 [candidates, targets]."""
    rows = pq.read_table(candidates).to_pylist()
    towards = torch.from_numpy(directions).to(measure.device)
    influence = torch.zeros(len(rows), towards.shape[1], device=measure.device)
    for number in range(1, measure.config.warm_up.epochs + 1):
        epoch = measure.at(number)
        sketches = torch.nn.functional.normalize(measure.sketches(rows, epoch), dim=1)
        influence += epoch.lr * sketches @ towards[number - 1].T
    write_array(out, influence.cpu().numpy())


def write_array(path: Path, values: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, values)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
