"""Fuzz targets: each takes bytes, lets pass what is a clean refusal, and raises where it has found something."""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

TARGETS = ("events", "image", "weights", "trainer", "settings", "history", "requests")
CORPUS = Path(__file__).parents[1] / "corpus"
LONGEST_S = 10  # of one input
MOST_MB = 2048  # of the process
LARGEST_BYTES = 16_384  # of an input


class Target(NamedTuple):
    """What is fuzzed, and inputs to begin with."""

    one: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def target_of(name: str) -> Target:
    """Import a target by its name."""
    module = import_module(f"{__name__}.{name}")
    return Target(module.one, module.seeds)


def kept(name: str) -> list[Path]:
    """The inputs that are kept of a target."""
    return sorted((CORPUS / name).iterdir())


class Find(AssertionError):  # noqa: N818 - what a fuzzer is for, not a failure
    """A value that breaks a promise."""


def promise(kept: object, words: str) -> None:
    """Raise Find unless it is kept; unlike assert also where Python is told to leave those out."""
    if not kept:
        raise Find(words)


def parts(data: bytes, count: int) -> list[bytes]:
    """Cut the input at its first lines into so many parts, the last of which is the rest."""
    return (data.split(b"\n", count - 1) + [b""] * count)[:count]
