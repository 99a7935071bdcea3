r"""Paths of fields, such as `data.temp` and `readings.0.value`, and the structs that messages are decoded into.

A dot goes into an object, digits are a place in a list, from 0. A backslash takes either meaning away: `core\.temp`
is one name, and `\0` is a name of digits.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import msgspec

WHOLE = "."  # the whole message, where it is the target
MOST_PLACES = 100  # of a list: its struct has a field for each
DOT = re.compile(r"(?<!\\)\.")
ABSENT = msgspec.Raw(b"null")

Kind = tuple[Any, Any]  # the type of a field, and its value where it is absent
Tree = dict[str | int, Any]  # by name or place: a tree, or the number of a field


def parts_of(path: str) -> list[str | int]:
    r"""Return the names and places on a path's way. Raises ValueError.

    >>> parts_of("readings.0.value"), parts_of(r"core\.temp.\0")
    (['readings', 0, 'value'], ['core.temp', '0'])
    """
    parts: list[str | int] = []
    for part in DOT.split(path):
        if not part:
            raise ValueError(f"{path!r} has a dot with no name beside it: a dot that is part of a name is written \\.")
        if not (part.isascii() and part.isdigit()):
            parts.append(part.replace("\\", ""))
        elif len(part) <= len(str(MOST_PLACES)) and int(part) < MOST_PLACES:
            parts.append(int(part))
        else:
            raise ValueError(f"{part} in {path!r} is beyond {MOST_PLACES - 1}; a name of digits is written \\{part}")
    return parts


def labels_of(paths: Sequence[str]) -> list[str]:
    """Return a short name for each path: its last, or where two end alike the whole path.

    >>> labels_of(["data.temp", "in.co2", "out.co2"])
    ['temp', 'in.co2', 'out.co2']
    """
    last = [str(parts_of(path)[-1]) for path in paths]
    return [name if last.count(name) == 1 else path for name, path in zip(last, paths, strict=True)]


def check_paths(paths: Sequence[str]) -> None:
    """Raise ValueError where two paths cannot both lead to a field."""
    for (one, first), (other, second) in combinations([(path, parts_of(path)) for path in paths], 2):
        shared = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
        if shared is None:
            raise ValueError(f"{one!r} and {other!r} are one field, or one is inside the other: give each its own")
        if isinstance(first[shared], int) != isinstance(second[shared], int):
            raise ValueError(f"{one!r} and {other!r} differ over what is a list and what an object")


@lru_cache
def _tree(paths: tuple[str, ...]) -> Tree:
    root: Tree = {}
    for number, path in enumerate(paths):
        *way, last = parts_of(path)
        node = root
        for part in way:
            node = node.setdefault(part, {})
        node[last] = number
    return root


def layout(paths: Sequence[str], kinds: Sequence[Kind]) -> tuple[type[msgspec.Struct], list[str]]:
    """Return the struct that has these fields, and for each the attributes on its way, dots between them.

    A field below what is absent is absent. Below what is null the way ends at None.
    """
    places = [""] * len(paths)
    return _struct(_tree(tuple(paths)), kinds, "", places), places


def _struct(tree: Tree, kinds: Sequence[Kind], way: str, places: list[str]) -> type[msgspec.Struct]:
    length = _length(tree)
    names: Sequence[str | int] = range(length) if length else [*tree]
    fields: list[tuple[str, Any, Any]] = []
    for n, name in enumerate(names):
        attribute, inner = f"f{n}", tree.get(name)
        if inner is None:
            fields.append((attribute, msgspec.Raw, ABSENT))
        elif isinstance(inner, int):
            places[inner] = way + attribute
            fields.append((attribute, *kinds[inner]))
        else:
            struct = _struct(inner, kinds, f"{way}{attribute}.", places)
            fields.append((attribute, struct | None, struct()))
    rename = None if length else {field[0]: str(name) for field, name in zip(fields, names, strict=True)}
    return msgspec.defstruct("Fields", fields, rename=rename, array_like=length > 0, frozen=True, gc=False)


def walk(message: object, place: str) -> Any:
    """Return the value at a place that `layout` gave, None below what is null."""
    for attribute in place.split("."):
        message = getattr(message, attribute, None)
    return message


def message(values: Mapping[str, object]) -> object:
    r"""Return the message in which these paths lead to these values.

    >>> message({"at": 7, "data.temp": 21.5, "data.all.1": 3})
    {'at': 7, 'data': {'temp': 21.5, 'all': [None, 3]}}
    """
    return _filled(_tree(tuple(values)), [*values.values()])


def _filled(tree: Tree, values: list[object]) -> object:
    filled = {part: _filled(i, values) if isinstance(i, dict) else values[i] for part, i in tree.items()}
    length = _length(tree)
    return [filled.get(place) for place in range(length)] if length else filled


def _length(tree: Tree) -> int:
    """Return how many places a list needs to have all that are in the tree; 0 where it is no list."""
    return max((name + 1 for name in tree if isinstance(name, int)), default=0)
