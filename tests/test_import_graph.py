"""The house keeps its order: imports go upward only, from room to room and inside each room, and never in a circle.

Every import counts, also those inside functions and under TYPE_CHECKING: an arrow that runs only sometimes still ties
two files together.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("modeling_yulanmini", "data_recipes", "train", "eval", "hub_cards", "yulanmini")
MOST_FILES = 20

# The parts of a room in the order in which they may import each other: each may use those before it.
# What is not named here is the room's top: it may use all of them.
FLOORS = {
    "data_recipes": (
        ("errors",),
        ("manifest", "places"),
        ("files", "ordering", "registry"),
        ("recipes",),
        ("executors", "endpoint", "answers"),
        ("reading",),
        ("cleaning",),
        ("synthesis",),
        ("instruct",),
        ("corpus",),
        ("tokens",),
        ("rows",),
        ("packing",),
        ("forecast",),
    ),
    "train": (
        ("errors",),
        ("launch", "config", "config_file"),
        ("curriculum",),
        ("model_setup",),
        ("checkpoints",),
        ("scoring",),
        ("monitors",),
        ("spikes",),
        ("run",),
        ("dry_run", "tuning"),
        ("selection",),
    ),
    "eval": (
        ("errors",),
        ("scores", "corpus_folder", "model_loading", "code_runner"),
        ("demonstration", "metrics"),
        ("generation",),
        ("tasks", "benchmarks"),
        ("harness",),
    ),
    "hub_cards": (
        ("errors",),
        ("loopback", "repos"),
        ("cards",),
        ("checks",),
        ("layout",),
        ("publishing",),
        ("rehearsal", "space"),
    ),
}


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that an import statement anywhere in the file may load."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or node.module, "an import of the form `from . import` hides what it takes"
            prefix = "." * node.level + (node.module or "")
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def import_graph(root: Path, rooms: Iterable[str] = ROOMS) -> dict[str, set[str]]:
    """The modules of the packages below `root`, each with those of them that it imports."""
    files = {module_name(path, root): path for room in rooms for path in sorted((root / room).rglob("*.py"))}
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for name in imported_names(ast.parse(path.read_text(encoding="utf-8"))):
            if name.startswith("."):
                level = len(name) - len(name.lstrip("."))
                name = ".".join([*package.split(".")[: len(package.split(".")) - level + 1], name.lstrip(".")])
            target = name if name in files else name.rpartition(".")[0]
            if target in files and target != module:
                graph[module].add(target)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other in a loop (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            place = stack.index(module)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found


def floor_of(module: str) -> int:
    """How high a part of a room lies; the top is above all that FLOORS names."""
    room, _, rest = module.partition(".")
    floors = FLOORS.get(room, ())
    part = rest.split(".")[0]
    if not part:
        return len(floors)
    return next((floor for floor, parts in enumerate(floors) if part in parts), len(floors))


def wrong_arrows(graph: dict[str, set[str]]) -> list[str]:
    """Imports that run from a lower room to a higher one, or from a lower part of a room to a higher one."""
    wrong = []
    for module, targets in graph.items():
        room = module.partition(".")[0]
        for target in sorted(targets):
            other = target.partition(".")[0]
            upward = ROOMS.index(other) > ROOMS.index(room) or (other == room and floor_of(target) > floor_of(module))
            if upward:
                wrong.append(f"{module} -> {target}")
    return wrong


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph(REPOSITORY)


def test_imports_go_one_way(graph):
    assert wrong_arrows(graph) == []


def test_no_modules_import_each_other_in_a_circle(graph):
    assert circles(graph) == []


def test_no_room_names_a_higher_one_in_a_string(graph):
    """`python -m yulanmini.cli` as a string is an upward import that no import statement shows."""
    for module in graph:
        room = ROOMS.index(module.partition(".")[0])
        path = REPOSITORY / f"{module.replace('.', '/')}.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
                named = node.value if node.value in graph else node.value.rpartition(".")[0]
                upward = named in graph and ROOMS.index(named.partition(".")[0]) > room
                assert not upward or named in ROOMS, f"{path}:{node.lineno} names {node.value}"


def test_no_folder_of_code_holds_more_than_twenty_files():
    for room in ROOMS:
        for folder in [REPOSITORY / room, *(REPOSITORY / room).rglob("*")]:
            if folder.is_dir():
                assert len(list(folder.glob("*.py"))) <= MOST_FILES, folder


def planted(tmp_path: Path, **files: str) -> dict[str, set[str]]:
    for name, text in files.items():
        path = tmp_path / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return import_graph(tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "from train.run import training\n",
        "import train.run\n",
        "def late():\n    from train.run import training\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from train.run import training\n",
    ],
)
def test_an_upward_import_is_found_wherever_it_stands(tmp_path, statement):
    files = {"data_recipes__reading": statement, "train__run": "training = 1\n"}
    assert wrong_arrows(planted(tmp_path, **files)) == ["data_recipes.reading -> train.run"]


def test_an_upward_import_inside_a_room_is_found(tmp_path):
    files = {
        "data_recipes__tokens__store": "from data_recipes.packing import draw\n",
        "data_recipes__packing__draw": "",
    }
    assert wrong_arrows(planted(tmp_path, **files)) == ["data_recipes.tokens.store -> data_recipes.packing.draw"]


def test_a_circle_is_found_also_through_a_third_file_and_a_relative_import(tmp_path):
    files = {
        "eval__a": "def late():\n    from .b import x\n",
        "eval__b": "from eval.c import x\n",
        "eval__c": "import eval.a\n",
        "eval__d": "from eval.a import y\n",
    }
    assert circles(planted(tmp_path, **files)) == [["eval.a", "eval.b", "eval.c"]]
