"""Models made of models as a stage's folder: merged or averaged, with a manifest of what they were made from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_recipes.manifest import folder_fingerprint, whole_folder, write_manifest


def write_merged(
    model: str | Path, destination: Path, *, inputs: Mapping[str, str] | None = None, **options: Any
) -> dict[str, Any]:
    """Merge `model` into `destination`, which appears whole; refused where the logits differ. Options and result are
    those of `modeling_yulanmini.merge.merge`; `inputs` by default name the model by its content."""
    from modeling_yulanmini.merge import merge

    config = {"target": options.get("target", "llama"), "dtype": options.get("dtype", "float32")}
    inputs = _contents([model]) if inputs is None else inputs
    return _written(lambda folder: merge(model, folder, **options), destination, "merged-model", inputs, config)


def write_averaged(
    sources: Sequence[str | Path], destination: Path, *, weights: Sequence[float] | None, **options: Any
) -> dict[str, Any]:
    """Average models into `destination`, which appears whole; options and result are those of
    `modeling_yulanmini.averaging.average`."""
    from modeling_yulanmini.averaging import average

    def write(folder: Path) -> dict[str, Any]:
        return average(sources, folder, weights=weights, **options)

    config = {"weights": None if weights is None else list(weights)}
    return _written(write, destination, "averaged-model", _contents(sources), config)


def _contents(models: Sequence[str | Path]) -> dict[str, str]:
    """What identifies models that lie on this machine."""
    folders = [Path(model) for model in models if Path(model).is_dir()]
    return {
        "model" if len(models) == 1 else f"model {number}": folder_fingerprint(folder)
        for number, folder in enumerate(folders, 1)
    }


def _written(
    write: Callable[[Path], dict[str, Any]],
    destination: Path,
    kind: str,
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
) -> dict[str, Any]:
    with whole_folder(destination) as partial:
        result = write(partial)
        counts = (result.get("comparison") or {}).get("as_stored", {})
        write_manifest(partial, kind=kind, inputs=inputs, config=config, counts=counts)
    return result
