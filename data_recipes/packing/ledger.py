"""What an earlier build has drawn from each source, from its manifest: a recipe with `after` continues there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.errors import DataError
from data_recipes.manifest import MANIFEST_NAME, read_manifest
from data_recipes.packing.request import BuildRequest, is_built
from data_recipes.packing.stream import Position
from data_recipes.recipes.phases import phase_folder
from data_recipes.recipes.recipe import Recipe
from data_recipes.rows.layout import KIND


@dataclass(frozen=True)
class Drawn:
    """Positions and tokens drawn, by the store's key, and the context lengths of all builds so far, in order."""

    positions: Mapping[str, Position]
    consumed: Mapping[str, int]
    context_lengths: tuple[int, ...]


def drawn_by(request: BuildRequest, recipe: Recipe) -> Drawn:
    """What the build that `recipe` comes `after`, and those before it, have drawn.

    `DataError` when it is not there, or read its sources in another order or with other tokens than this build will:
    its positions then mean nothing.
    """
    if recipe.after is None or not is_built(request.out, recipe.after):
        raise DataError(
            f"{recipe.name}: after '{recipe.after}': no such recipe is given to this build or built in {request.out}. "
            "Build it there first, or give both."
        )
    folder = request.out / phase_folder(recipe.after)
    manifest = read_manifest(folder, kind=KIND)
    differences = [
        f"{name} {then}, not {now}"
        for name, then, now in (
            ("seed", manifest["seed"], request.base_seed),
            ("tokenizer", manifest["tokenizer"]["fingerprint"][:16], request.loaded_tokenizer.fingerprint[:16]),
            ("bos", manifest["config"]["bos"], request.bos),
            ("bpe_dropout", manifest["config"]["bpe_dropout"], request.dropout),
        )
        if then != now
    ]
    if differences:
        raise DataError(
            f"{recipe.name} comes after {folder}, which was built with {', '.join(differences)}: its positions in the "
            "sources cannot be continued. Build both alike, or leave out 'after'."
        )
    return Drawn(
        {key: Position(**position) for key, position in manifest["ledger_out"].items()},
        manifest["consumed"],
        tuple(manifest["context_lengths"]),
    )


def drawn_again(out: Path, manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each of these builds that began sources which another folder of `out` had begun as well."""
    notes = []
    new = {manifest["name"] for manifest in manifests}
    folders = (path.parent for path in sorted(out.glob(f"[!.]*/{MANIFEST_NAME}")))
    others = [other for other in map(read_manifest, folders) if other["kind"] == KIND and other["name"] not in new]
    for manifest in manifests:
        for other in others:
            if manifest["phase"] is not None and other["phase"] is not None:
                continue  # both variants of phase 26 begin where 25 ends
            begun, begun_there = _begun(manifest), _begun(other)
            shared = [name for store, name in begun.items() if store in begun_there]
            if shared:
                notes.append(
                    f"{manifest['name']} and {other['name']} both begin at the first row of {', '.join(shared)}: rows "
                    f"are used twice. To continue where {other['name']} stopped, write 'after: {other['name']}' in "
                    "the recipe."
                )
    return notes


def _begun(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The sources, by the store's key, that a build has read from their first row, and their names."""
    continued = manifest["config"]["ledger_in"]
    return {source["store"]: source["name"] for source in manifest["sources"] if source["store"] not in continued}
