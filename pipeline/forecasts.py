"""What a shard says of a batch: arrays with one entry per accepted event, stream names beside them."""

from itertools import chain
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Bools, Floats, Ints
from pipeline.method import Method


class Forecasts(NamedTuple):
    """What became of a batch: one entry for each accepted event, in offset order (n of them)."""

    offset: Ints  # (n,)
    name: list[str]
    time_ms: Ints  # (n,)
    record_ms: Ints  # (n,)
    value: Floats  # (n,) as it came
    step_ms: Ints  # (n,) the stream's own step, 0 while it has none
    mean: Floats  # (n, Z) in the value's units, like all below but the errors
    quantiles: Floats  # (n, Z, Q)
    parts: Floats  # (n, Z, X) what single parts of the method said, if the shard was asked to tell; else X = 0
    expected: Floats  # (n, 3) mean, low, high that the shortest horizon said of this event; NaN: it said nothing
    error: Floats  # (n, Z) label - forecast in horizon scales; NaN: no label, or a stream too young to have scales
    naive: Floats  # (n, Z) label - last value, same units
    network_error: Floats  # (n,) label - the network's own forecast of the first horizon, same units
    inside: Bools  # (n, Z, bands) the label was in the band; where error is not NaN
    verdict: Ints  # of each event of the batch, accepted or not
    born: list[str]  # streams that got a row

    @classmethod
    def blank(cls, n: int, method: Method, verdict: Ints, parts: int = 0) -> "Forecasts":
        """Room for n events, of a batch with this verdict. What is in it means nothing yet."""
        z, q = len(method.horizons), len(method.quantiles)
        return cls(
            np.empty(n, np.int64), [], np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n), np.empty(n, np.int64),
            np.empty((n, z)), np.empty((n, z, q)), np.empty((n, z, parts)), np.empty((n, 3)), np.empty((n, z)),
            np.empty((n, z)), np.empty(n), np.empty((n, z, method.bands), np.bool_), verdict, [],
        )  # fmt: skip

    def between(self, low: int, high: int) -> "Forecasts":
        """What a wave fills in of the events low to high, as views."""
        if high - low == len(self.offset):
            return self
        part = (array[low:high] for array in self[PER_WAVE])
        return Forecasts._make((*self[: PER_WAVE.start], *part, *self[PER_WAVE.stop :]))

    def put(self, said: "Forecasts", places: Ints) -> None:
        """Take over what a wave said of the events at these places."""
        for mine, theirs in zip(self[PER_WAVE], said[PER_WAVE], strict=True):
            mine[places] = theirs


# What a wave fills in; these fields stand together
PER_WAVE = slice(Forecasts._fields.index("step_ms"), Forecasts._fields.index("inside") + 1)


def joined(parts: list[Forecasts]) -> Forecasts:
    """One after the other."""
    fields = (list(chain(*f)) if isinstance(f[0], list) else np.concatenate(f) for f in zip(*parts, strict=True))
    return Forecasts(*fields)  # type: ignore[arg-type]  # field by field what it was
