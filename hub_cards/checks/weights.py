"""Weights: the tensors that the config calls for, whole, in their places, and every value a number.

Read in pieces, with NumPy alone: a model of any size takes the memory of one piece.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.errors import first_line, listed
from hub_cards.checks.subject import Finding, Part, Subject, Unreadable, error, read_mapping, warning

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
LONGEST_HEADER = 100_000_000  # the limit of the safetensors library
PIECE = 1 << 22
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
# A float is no number where all bits of its exponent are set.
EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F64": (np.uint64, 0x7FF0000000000000),
    "F32": (np.uint32, 0x7F800000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
LAYER = re.compile(r"model\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Stored:
    """A tensor as a header describes it; `begin` and `end` count from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def tensors_of(repo: Subject, part: Part, name: str) -> dict[str, Stored]:
    """The tensors of a safetensors file; `Unreadable` where its header does not describe exactly what follows it."""
    return repo.once("tensors", part.place(name), partial(read_header, part.folder / name))


def read_header(path: Path) -> dict[str, Stored]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise Unreadable(f"truncated: {size:,} bytes do not hold its header")
        if length > LONGEST_HEADER:
            raise Unreadable(f"a header of {length:,} bytes; safetensors reads up to {LONGEST_HEADER:,}")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_each_once)
            header.pop("__metadata__", None)
            tensors = {name: _stored(entry, 8 + length) for name, entry in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as failure:
            raise Unreadable(f"its header is not valid; this is no safetensors file ({first_line(failure)})") from None
    end = max((stored.end for stored in tensors.values()), default=8 + length)
    if size != end:
        what = "truncated" if size < end else "something was added behind its tensors"
        raise Unreadable(f"{what}: {size:,} bytes, its header says {end:,}")
    in_order = sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end))
    if in_order and in_order[0][1].begin != 8 + length:
        raise Unreadable(f"bytes that belong to no tensor, before {in_order[0][0]}")
    for (one, before), (other, after) in pairwise(in_order):
        if after.begin != before.end:
            what = "overlap" if after.begin < before.end else "leave a gap between them"
            raise Unreadable(f"the tensors {one} and {other} {what}")
    return tensors


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = Counter(name for name, _ in pairs)
    if names and max(names.values()) > 1:
        raise ValueError(f"{max(names, key=names.__getitem__)!r} is there twice")
    return dict(pairs)


def _stored(entry: Mapping[str, Any], start: int) -> Stored:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if entry["dtype"] not in SIZES:
        raise ValueError(f"the dtype {entry['dtype']}, expected one of {', '.join(SIZES)}")
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("an offset or a size that is no count")
    elements = 1
    for number in shape:
        elements *= number
    if end - begin != elements * SIZES[entry["dtype"]]:
        raise ValueError(f"{end - begin:,} bytes for {entry['dtype']} {list(shape)}")
    return Stored(entry["dtype"], shape, start + begin, start + end)


def shards_complete(repo: Subject) -> Iterator[Finding]:
    """Weight files are there and whole; each tensor lies in exactly one, the one that the index names."""
    for part in repo.models:
        there = [name for name in part.matching(".safetensors") if "/" not in name]
        if INDEX in part.files:
            yield from _index_findings(repo, part, there)
        elif WEIGHTS not in part.files:
            yield error(part.place(WEIGHTS), "missing")
        else:
            for name in there:
                if name != WEIGHTS:
                    yield error(part.place(name), f"a shard beside {WEIGHTS}, without an index; remove one of the two")
        for name in there:
            try:
                tensors_of(repo, part, name)
            except Unreadable as failure:
                yield error(part.place(name), str(failure))


def _index_findings(repo: Subject, part: Part, there: list[str]) -> Iterator[Finding]:
    place = part.place(INDEX)
    try:
        index = read_mapping(part.folder / INDEX)
        weight_map = {str(name): str(file) for name, file in index["weight_map"].items()}
    except (Unreadable, KeyError, AttributeError) as failure:
        yield error(place, f"no map of tensors to files ({first_line(failure)}); save the model again")
        return
    if WEIGHTS in part.files:
        yield error(part.place(WEIGHTS), f"{INDEX} is there too, and from_pretrained would load this one; remove it")
    named = set(weight_map.values())
    for name in sorted(named - set(there)):
        yield error(part.place(name), f"missing, though {INDEX} names it")
    for name in sorted(set(there) - named - {WEIGHTS}):
        yield error(part.place(name), f"{INDEX} does not name it; remove it")
    numbers = [SHARD.fullmatch(name) for name in sorted(named)]
    if not all(numbers) or [int(match[1]) for match in numbers if match] != list(range(1, len(named) + 1)):
        yield error(
            place, f"shards {', '.join(sorted(named)[:4])}; expected model-00001-of-{len(named):05d}... to the last"
        )
    inside: dict[str, list[str]] = {}
    for name in sorted(named & set(there)):
        try:
            for tensor in tensors_of(repo, part, name):
                inside.setdefault(tensor, []).append(name)
        except Unreadable:
            return  # told where the file is looked at by itself
    for tensor in sorted(weight_map.keys() | inside.keys()):
        files = inside.get(tensor, [])
        if len(files) > 1:
            yield error(place, f"{tensor} is in {' and '.join(files)}: which one is loaded is chance")
        elif files != [weight_map.get(tensor)]:
            found, named_there = files[0] if files else "no shard", weight_map.get(tensor, "nothing of it")
            yield error(place, f"{tensor} is in {found}, the index says {named_there}")
    size = sum(
        stored.end - stored.begin for name in named & set(there) for stored in tensors_of(repo, part, name).values()
    )
    said = (index.get("metadata") or {}).get("total_size")
    if said != size:
        yield error(place, f"total_size {said}, the shards hold {size:,} bytes")


def stored_tensors(repo: Subject, part: Part) -> dict[str, tuple[str, Stored]]:
    """All tensors of a model and the file of each; nothing where a file is broken."""
    found: dict[str, tuple[str, Stored]] = {}
    for name in part.matching(".safetensors"):
        if "/" in name:
            continue
        try:
            found |= {tensor: (name, stored) for tensor, stored in tensors_of(repo, part, name).items()}
        except Unreadable:
            return {}
    return found


def tensors_fit(repo: Subject) -> Iterator[Finding]:
    """Names, shapes and dtypes are what the config builds; a tied head is not stored with values of its own."""
    for part in repo.models:
        stored = stored_tensors(repo, part)
        try:
            config = read_mapping(part.folder / "config.json")
        except Unreadable:
            continue  # told by the check of the config
        if not stored:
            continue
        sizes = list(_sizes(config, {name: tensor.shape for name, (_, tensor) in stored.items()}))
        for problem in sizes:
            yield error(part.place("config.json"), problem)
        if sizes:
            continue
        try:
            expected, tied = repo.once("built", part.sha256("config.json"), partial(built_by, part.folder))
        except Exception as failure:  # whatever a class says of a config that it cannot be made from
            yield error(part.place("config.json"), f"no model can be built from it ({first_line(failure)})")
            continue
        for problem in _differences(expected, tied, {name: tensor for name, (_, tensor) in stored.items()}, config):
            yield error(part.place(INDEX if INDEX in part.files else WEIGHTS), problem)
        yield from _tied_findings(part, tied, stored)


def _sizes(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Sizes in the config that the weights contradict, said before anything is built from them."""
    embedding = shapes.get("model.embed_tokens.weight")
    gate = shapes.get("model.layers.0.mlp.gate_proj.weight")
    query, key = (shapes.get(f"model.layers.0.self_attn.{name}_proj.weight") for name in "qk")
    head = config.get("head_dim") or (config.get("hidden_size", 0) // (config.get("num_attention_heads") or 1))
    found = {
        "num_hidden_layers": len({match[1] for name in shapes if (match := LAYER.match(name))}),
        "vocab_size": embedding[0] if embedding else None,
        "hidden_size": embedding[-1] if embedding else None,
        "intermediate_size": gate[0] if gate else None,
        "num_attention_heads": query[0] / head if query and head else None,
        "num_key_value_heads": key[0] / head if key and head else None,
    }
    for name, value in found.items():
        if value is not None and name in config and config[name] != value:
            yield f"{name} is {config[name]}, the weights are of {value:g}"


def built_by(folder: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """(shape of each tensor by its name in files, names that are tied to others) of the model that a config builds.

    Built without memory, by the installed classes.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from modeling_yulanmini.modeling_yulanmini import saved_name

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    shapes = {saved_name(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return shapes, set(model.all_tied_weights_keys)


def _differences(
    expected: Mapping[str, tuple[int, ...]], tied: set[str], stored: Mapping[str, Stored], config: Mapping[str, Any]
) -> Iterator[str]:
    missing = sorted(expected.keys() - stored.keys() - tied)
    if missing:
        yield f"lacks {listed(missing)}, which the config calls for"
    unknown = sorted(stored.keys() - expected.keys())
    if unknown:
        yield f"holds {listed(unknown)}, which the config does not call for"
    for name in sorted(expected.keys() & stored.keys()):
        # Learnable scales are stored with the shape [] or [1].
        ours, theirs = (shape if shape != () else (1,) for shape in (expected[name], stored[name].shape))
        if ours != theirs:
            yield f"{name} is {list(stored[name].shape)}, the config calls for {list(expected[name])}"
    said = config.get("dtype", config.get("torch_dtype"))
    other = Counter(tensor.dtype for tensor in stored.values() if tensor.dtype != DTYPES.get(str(said)))
    if other:
        found = ", ".join(f"{count} of {dtype}" for dtype, count in other.items())
        yield f"{len(stored)} tensors, {found}; the config says {said}"


def _tied_findings(part: Part, tied: set[str], stored: Mapping[str, tuple[str, Stored]]) -> Iterator[Finding]:
    """A tied head that is stored with other values: what is loaded depends on who loads it."""
    embedding = stored.get("model.embed_tokens.weight")
    for name in sorted(tied & stored.keys()):
        if embedding is None or stored[name][0] != embedding[0]:
            continue
        ours, theirs = (_bytes(part.folder / file, tensor) for file, tensor in (stored[name], embedding))
        if ours != theirs:
            message = f"{name} differs from the embedding that it is tied to; untie them in the config or remove it"
            yield error(part.place(embedding[0]), message)


def _bytes(path: Path, tensor: Stored) -> bytes:
    with path.open("rb") as file:
        file.seek(tensor.begin)
        return file.read(tensor.end - tensor.begin)


def every_value_is_a_number(repo: Subject) -> Iterator[Finding]:
    """No NaN and no infinity in any tensor, an adapter's and an optimizer's included; no matrix that is all zeros."""
    files = [(part, name) for part in repo.parts for name in part.matching(".safetensors")]
    known: set[str] = set()
    with repo.bar(sum((part.folder / name).stat().st_size for part, name in files), "read weights") as bar:
        for part, name in files:
            path = part.folder / name
            try:
                tensors = tensors_of(repo, part, name)
            except Unreadable as failure:
                if "/" in name:  # others are told by the check of shards
                    yield error(part.place(name), str(failure))
                continue
            # `main` is one of the branches again: the same file is read once.
            if (digest := part.sha256(name)) in known:
                bar.update(path.stat().st_size)
                continue
            known.add(digest)
            for tensor, stored in tensors.items():
                wrong, all_zero = _look_at(path, stored)
                bar.update(stored.end - stored.begin)
                if wrong is not None:
                    yield error(part.place(name), f"{tensor} holds NaN or infinity, first at {_index(wrong, stored)}")
                elif all_zero and len(stored.shape) > 1 and "/" not in name:  # moments of an optimizer may be
                    yield warning(part.place(name), f"{tensor} is all zeros; was it trained?")


def _look_at(path: Path, stored: Stored) -> tuple[int | None, bool]:
    """(the first value that is no number, by its place in the flat tensor; whether all values are zero)."""
    if stored.dtype not in EXPONENTS:
        return None, False
    kind, exponent = EXPONENTS[stored.dtype]
    width = np.dtype(kind).itemsize
    all_zero = True
    with path.open("rb") as file:
        file.seek(stored.begin)
        for start in range(0, stored.end - stored.begin, PIECE * width):
            values = np.frombuffer(file.read(min(PIECE * width, stored.end - stored.begin - start)), kind)
            wrong = (values & kind(exponent)) == exponent
            if wrong.any():
                return start // width + int(wrong.argmax()), False
            all_zero = all_zero and not values.any()
    return None, all_zero


def _index(flat: int, stored: Stored) -> list[int]:
    return [int(number) for number in np.unravel_index(flat, stored.shape)] if stored.shape else []
