"""A merged model as a stage's folder: the plain Llama, its certificate, and a manifest of what it was made from."""

from collections.abc import Mapping
from pathlib import Path

from data_recipes.manifest import whole_folder, write_manifest
from modeling_yulanmini.merge import merge


def write_merged(model: Path, destination: Path, *, dtype: str, inputs: Mapping[str, str]) -> None:
    """Merge `model` into `destination`, which appears whole; refused where the logits differ."""
    with whole_folder(destination) as partial:
        certificate = merge(model, partial, dtype=dtype)
        write_manifest(
            partial,
            kind="merged-model",
            inputs=inputs,
            config={"target": "llama", "dtype": dtype},
            counts=certificate["comparison"]["as_stored"],
        )
