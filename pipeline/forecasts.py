"""What a shard says of a batch: arrays with one entry per accepted event, stream names beside them."""

from itertools import chain
from math import prod
from typing import NamedTuple

import numpy as np

from pipeline.compiled import Bools, Floats, Ints
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
    def blank(cls, n: int, method: Method, parts: int = 0) -> "Forecasts":
        """Room for n events."""
        z, q, bands = len(method.horizons), len(method.quantiles), method.bands

        def ints() -> Ints:
            return np.zeros(n, np.int64)

        shapes = ((), (z,), (z, q), (z, parts), (3,), (z,), (z,), ())
        sizes = [n * prod(shape) for shape in shapes]
        block, low, floats = np.full(sum(sizes), np.nan), 0, []  # one for all: most batches are small
        for shape, size in zip(shapes, sizes, strict=True):
            floats.append(block[low : low + size].reshape(n, *shape))
            low += size
        value, mean, quantiles, told, expected, error, naive, network_error = floats
        return cls(
            ints(), [], ints(), ints(), value, ints(), mean, quantiles, told, expected, error, naive, network_error,
            np.zeros((n, z, bands), np.bool_), ints(), [],
        )  # fmt: skip


def joined(parts: list[Forecasts]) -> Forecasts:
    """One after the other."""
    fields = (list(chain(*f)) if isinstance(f[0], list) else np.concatenate(f) for f in zip(*parts, strict=True))
    return Forecasts(*fields)  # type: ignore[arg-type]  # field by field what it was
