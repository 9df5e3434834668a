"""YAML in, a validated model out; whatever is wrong becomes one `DataError` that names file and key.

For a misspelt key the message names the nearest valid one; a key given twice is refused (YAML would keep the last).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from data_recipes.errors import DataError, nearest

Model = TypeVar("Model", bound=BaseModel)

# libyaml's parser where PyYAML was built with it: the 28 phase files load ten times faster.
_FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_FastLoader):
    """Safe loader that refuses a key given twice in one mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen and key_node.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """The value of a YAML file (safe loader); `DataError` with line and column when it is not YAML or not UTF-8."""
    if path.is_dir():
        raise DataError(f"{path}: a folder, expected a YAML file.")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # a safe loader, see above
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (yaml.YAMLError, TypeError) as error:  # TypeError: a mapping as a key
        raise DataError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}).") from error


def validate(model: type[Model], value: Any, *, where: str) -> Model:
    """`model` from a parsed YAML value; `where` (usually the file) begins every message."""
    if not isinstance(value, Mapping):
        found = "nothing" if value is None else type(value).__name__
        keys = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
        raise DataError(f"{where}: {found} at the top level, expected a mapping with the keys {keys}.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise DataError(_message(model, error, where)) from error


def _message(model: type[BaseModel], error: ValidationError, where: str) -> str:
    lines = []
    for item in error.errors():
        owner, path = _walk(model, item["loc"])
        key = path[-1] if path else ""
        place = f"{where}: {_dotted(path)}" if path else where
        if item["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key.{_nearest_key(str(key), owner, model)}")
        elif item["type"] == "missing":
            lines.append(f"{place}: missing; it must be given.")
        elif item["type"] == "literal_error":
            allowed = _literals(owner, str(key))
            lines.append(f"{place}: '{item['input']}' is not valid.{nearest(str(item['input']), allowed)}")
        elif item["type"] == "value_error":
            lines.append(f"{place}: {item['ctx']['error']}")
        else:
            lines.append(f"{place}: {item['msg']}; found {item['input']!r:.80}.")
    rest = f"\n(and {len(lines) - 2} more)" if len(lines) > 2 else ""
    return "\n".join(lines[:2]) + rest


def _nearest_key(key: str, owner: type[BaseModel], root: type[BaseModel]) -> str:
    """The key that was meant: of that very name in another section, else the nearest one in this section."""
    elsewhere = [path for path in _dotted_keys(root) if path.rpartition(".")[2] == key]
    return f" Did you mean '{elsewhere[0]}'?" if elsewhere else nearest(key, owner.model_fields)


def _dotted_keys(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every key of a model and of the sections below it, sections of the same kind once."""
    for name, field in model.model_fields.items():
        yield f"{above}{name}"
        inner = _model_in(field.annotation)
        if inner is not None and inner is not model:
            yield from _dotted_keys(inner, f"{above}{name}.")


def _walk(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], list[int | str]]:
    """The model that owns the last key of `loc`, and the path as the user wrote it (without union tags)."""
    owner, path = model, []
    for position, part in enumerate(loc):
        if isinstance(part, str) and part.startswith("<"):  # tag of a union's branch
            continue
        path.append(part)
        field = owner.model_fields.get(part) if isinstance(part, str) else None
        if field is not None and position + 1 < len(loc):
            inner = _model_in(field.annotation)
            owner = inner or owner
    return owner, path


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _literals(model: type[BaseModel], key: str) -> list[str]:
    def strings(annotation: Any) -> list[str]:
        if isinstance(annotation, str):
            return [annotation]
        return [value for argument in get_args(annotation) for value in strings(argument)]

    field = model.model_fields.get(key)
    return strings(field.annotation) if field else []


def _dotted(path: list[int | str]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text
