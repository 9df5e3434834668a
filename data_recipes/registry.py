"""Registries by module: a class with a `name` in a package is found, so that adding one touches one file.

Monitors, spike policies and evaluation tasks are found in this way.
"""

import pkgutil
from importlib import import_module
from typing import Any, TypeVar

Named = TypeVar("Named")


def named_subclasses(base: type[Named], *, elsewhere: bool = False) -> dict[str, type[Named]]:
    """The subclasses of `base` with a `name` that the modules beside it define, by name.

    `elsewhere`: those too that a user's own module defines, once it is imported.
    """
    package = base.__module__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")
    kinds: list[Any] = [base]
    for kind in kinds:
        kinds += kind.__subclasses__()
    found = [
        kind for kind in kinds if "name" in vars(kind) and (elsewhere or kind.__module__.startswith(f"{package}."))
    ]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: kind.name)}
