"""The experts by name: who forecasts a stream's moves, and who reads that. Knows none of them.

An expert puts its moves (Z,) from z, in horizon scales, into the field `<name>_move` of an event; the field `moves` has
those of all experts, one row each. The order is that of the columns in what waits for labels, so new ones come last.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pipeline.method import Method


class Expert(NamedTuple):
    """Who reads its moves; the last value, which never moves, is an expert of the mixture without being listed."""

    name: str
    there: Callable[[Method], bool] = lambda _method: True
    stacked: bool = False  # by the stacking
    mixed: bool = False  # by the mixture
    waits: bool = False  # it counts in the mixture only as labels of a horizon come


EXPERTS = (
    Expert("linear", lambda method: method.full, stacked=True),
    Expert("seasonal", stacked=True, mixed=True),
    Expert("profile", stacked=True, mixed=True),
    Expert("seasonal_shift", stacked=True),
    Expert("profile_shift", stacked=True),
    Expert("network", stacked=True, mixed=True, waits=True),
    Expert("week", lambda method: method.has_week, stacked=True),
    Expert("companion", lambda method: method.has_companion, stacked=True),
    Expert("stack", lambda method: method.full, mixed=True, waits=True),
)
SINGLE = ("seasonal", "network", "linear", "stack")  # whose own forecasts a shard publishes where it is asked to


def experts(method: Method) -> list[Expert]:
    """The experts that a method has."""
    return [expert for expert in EXPERTS if expert.there(method)]


def stacked(method: Method) -> list[str]:
    """Moves that the stacking weighs, in the order of its columns."""
    return [expert.name for expert in experts(method) if expert.stacked]


def mixed(method: Method) -> list[Expert]:
    """Those that the mixture weighs, beside the last value."""
    return [expert for expert in experts(method) if expert.mixed]


def moves(method: Method) -> list[str]:
    """Whose moves an event has."""
    return [expert.name for expert in experts(method)]


def places(method: Method, names: Iterable[str]) -> list[int]:
    """Where these are among an event's moves."""
    return [moves(method).index(name) for name in names]


def part_names(method: Method) -> tuple[str, ...]:
    """Experts whose own forecasts a shard publishes where it is asked to."""
    there = [expert.name for expert in experts(method)]
    return tuple(name for name in SINGLE if name in there)
