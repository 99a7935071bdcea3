"""What a shard makes of a batch: one record per accepted event, stream names beside them."""

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Floats, Ints
from pipeline.method import Method
from pipeline.records import published

LARGEST = 10.0  # horizon scales: one spike must not own the figures


class Forecasts(NamedTuple):
    """What became of a batch: one entry for each accepted event, in offset order (n of them).

    Every field of the events (records.py has them all) is an attribute too: `forecasts.mean` (n, Z), a view.
    """

    events: Events  # (n,)
    name: list[str]
    parts: Floats  # (n, Z, X) the forecasts of single experts, if the shard was asked for them; else X = 0
    verdict: Ints  # of each event of the batch, accepted or not
    born: list[str]  # streams that got a row
    dropped: list[str]  # streams of the events that were not accepted, in their order (d of them)
    dropped_ms: Ints  # (d,) their times
    dropped_value: Floats  # (d,) and values; NaN: there is none

    def __getattr__(self, field: str) -> npt.NDArray[Any]:
        try:
            array = self.events[field]
        except ValueError:
            raise AttributeError(f"an event has no field {field!r}") from None
        return array.view(np.bool_) if array.dtype == np.uint8 else array  # numba (0.68) knows no nested bool arrays

    @classmethod
    def blank(cls, n: int, method: Method, parts: int = 0) -> "Forecasts":
        """Room for n accepted events. What is in it means nothing yet."""
        events, singles = np.empty(n, published(method)), np.empty((n, len(method.horizons), parts))
        return cls(events, [], singles, np.zeros(n, np.int64), [], [], np.zeros(0, np.int64), np.zeros(0))


def joined(parts: list[Forecasts]) -> Forecasts:
    """Forecasts of several batches as those of one."""
    fields = (list(chain(*f)) if isinstance(f[0], list) else np.concatenate(f) for f in zip(*parts, strict=True))
    return Forecasts(*fields)  # type: ignore[arg-type]  # field by field what it was


def capped(errors: Floats) -> Floats:
    """Errors in horizon scales as skill counts them: at most `LARGEST`, and 0 where there is none."""
    return np.clip(np.nan_to_num(errors), -LARGEST, LARGEST)


def outlying(forecasts: Forecasts) -> npt.NDArray[np.bool_]:
    """(n,) whether forecast and last value both missed a value by more than `LARGEST` at the shortest horizon.

    Such a value, a sentinel or a spike, says nothing about which of them is better.
    """
    missed: npt.NDArray[np.bool_] = np.minimum(abs(forecasts.error[:, 0]), abs(forecasts.naive[:, 0])) > LARGEST
    return missed
