"""The phases of a run that are known: built in `data.dir`, or recorded in a checkpoint when they were.

A finished phase may be deleted and a later one may not be built yet: all 27 take 4.3 TB.
"""

from pathlib import Path

from data_recipes.recipes.phases import phase_folder
from data_recipes.recipes.recipe import Recipe
from data_recipes.rows.reader import PackedRows
from train.checkpoints.sharded import checkpoints_in, read_trainer
from train.config import PretrainConfig, phase_names
from train.curriculum.plan import Curriculum, PhaseRows, make_curriculum
from train.errors import TrainError


def read_curriculum(config: PretrainConfig) -> Curriculum:
    """The table of a run over the phases that are known."""
    return make_curriculum(config, known_phases(config))


def known_phases(config: PretrainConfig) -> list[PhaseRows]:
    """The phases that the config names, up to the first that is neither built in `data.dir` nor recorded in one of the
    run's checkpoints; TrainError where that is the first of all.

    Each manifest is read here, once for the whole run.
    """
    phases: list[PhaseRows] = []
    recorded = recorded_phases(config)
    for name in phase_names(config.data.phases):
        folder = config.data.dir / phase_folder(name)
        if folder.is_dir():
            phases.append(phase_rows(name, folder))
        elif name in recorded:
            phases.append(recorded[name])
        else:
            break
    if not phases:
        present = sorted(path.parent.name for path in config.data.dir.glob("*/manifest.json"))
        raise TrainError(
            f"data.phases: no folder {folder} for phase '{name}'. "
            f"Present: {', '.join(present) or 'none'}. Build it with `yulanmini data build {name}`."
        )
    return phases


def phase_rows(name: str, folder: Path) -> PhaseRows:
    """A built phase under the name that the config gives it."""
    built = PackedRows(folder)
    subsets = tuple((subset["name"], subset["domain"], subset["tokens"]) for subset in built.manifest["subsets"])
    return PhaseRows(name, built.fingerprint, built.context_length, len(built), subsets, built)


def rows_of_recipe(name: str, recipe: Recipe) -> PhaseRows:
    """A phase that is still to be built: every subset is packed by itself, so it has whole rows."""
    rows = [subset.tokens // recipe.context_length for subset in recipe.subsets]
    subsets = tuple(
        (subset.name, subset.domain, count * recipe.context_length)
        for subset, count in zip(recipe.subsets, rows, strict=True)
    )
    return PhaseRows(name, f"recipe {recipe.key}", recipe.context_length, sum(rows), subsets)


def recorded_phases(config: PretrainConfig) -> dict[str, PhaseRows]:
    """What the newest readable checkpoint of the run says of the phases that were known then."""
    for checkpoint in reversed(checkpoints_in(config.output_dir)):
        try:
            recorded = read_trainer(checkpoint).get("phases", [])
        except TrainError:
            continue  # the run passes over it as well, and says so
        return {
            facts["name"]: PhaseRows(**facts | {"subsets": tuple(map(tuple, facts["subsets"]))}) for facts in recorded
        }
    return {}
