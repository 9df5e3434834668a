"""The measures that are ours, as modules of Hugging Face `evaluate`: each a folder that `evaluate.load` takes.

    evaluate.load(str(metric_folder("bits_per_byte"))).compute(predictions=[...], references=[...])

Our own tasks score through the same classes, by `compute`. `evaluate` takes seconds to import: only scoring pays.
"""

import tempfile
from pathlib import Path
from typing import Any

from data_recipes.errors import nearest
from eval.errors import EvalError

FOLDER = Path(__file__).resolve().parent
METRICS = ("answer_match", "bits_per_byte", "pass_at_k")


def metric_folder(name: str) -> Path:
    """The folder of a metric, for `evaluate.load`. `EvalError` for a name that is none."""
    if name not in METRICS:
        raise EvalError(f"no metric '{name}'.{nearest(name, METRICS)}")
    return FOLDER / name


def compute(name: str, **inputs: Any) -> dict[str, Any]:
    """What the loaded metric computes. `EvalError` for inputs that cannot be scored.

    Not through `evaluate.load`: that copies the module into the user's cache and imports the copy, which a kill in
    between leaves cut, and which a read-only home does not take.
    """
    from evaluate.loading import import_main_class

    metric_folder(name)
    with tempfile.TemporaryDirectory() as cache:
        metric = import_main_class(f"{__name__}.{name}.{name}")(keep_in_memory=True, cache_dir=cache)
        try:
            return metric.compute(**inputs)
        except ValueError as error:
            raise EvalError(f"{name}: {error}") from error
