"""What a part of the method is: fields of a row, what is fixed for it, and the verbs it takes part in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.method import Method


class Verb(Protocol):
    """What is done with each event of a wave: to its row of `rows` (R,) and to its record of `events` (B,).

    `fixed` (1,) is what follows from the settings. A kernel, or what must be done in NumPy.
    """

    def __call__(self, rows: Rows, events: Events, fixed: Fixed, /) -> object: ...


def _no_fields(_method: Method) -> list[Field]:
    return []


def _all_zero(_method: Method, _row: np.void) -> None:
    return


def _nothing_fixed(_method: Method) -> Mapping[str, npt.ArrayLike]:
    return {}


def _no_indices(_method: Method) -> Mapping[str, int]:
    return {}


def _always(_method: Method) -> bool:
    return True


@dataclass(frozen=True)
class Part:
    """The one form of a part; what a part does not name, it does not do. wave.py has the order of verbs."""

    fields: Callable[[Method], list[Field]] = _no_fields  # of each row
    initialise: Callable[[Method, np.void], None] = _all_zero  # sets in a blank row what does not start at zero
    fixed: Callable[[Method], Mapping[str, npt.ArrayLike]] = _nothing_fixed  # by the names its kernels know them by
    takes_part: Callable[[Method], bool] = _always
    arrive: tuple[Verb, ...] = ()
    follow: tuple[Verb, ...] = ()
    score: tuple[Verb, ...] = ()
    learn: tuple[Verb, ...] = ()
    measure: tuple[Verb, ...] = ()
    look_ahead: tuple[Verb, ...] = ()
    step: tuple[Verb, ...] = ()
    forecast: tuple[Verb, ...] = ()
    indices: Callable[[Method], Mapping[str, int]] = _no_indices  # fields that kernels index with: each is below this
