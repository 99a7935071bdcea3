"""Slopes over time with their standard errors, of figures that begin anew with every process."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

HOUR_S = 3600.0
FLAT = 0.02  # an hour, of the mean
SURE = 2.0  # standard errors
MOST_LIKE_THE_LAST = 0.98  # correlation of neighbours, at most


class Point(NamedTuple):
    """A sample: seconds since the run began, and the figure."""

    at_s: float
    figure: float


Segment = Sequence[Point]


@dataclass(frozen=True)
class Slope:
    """How fast a figure grew, by all segments together."""

    per_hour: float
    error: float  # standard error of `per_hour`
    mean: float
    samples: int
    segments: int
    span_s: float  # from the first sample to the last

    @property
    def share(self) -> float:
        """Growth per hour as a share of the mean."""
        return self.per_hour / self.mean if self.mean else 0.0

    @property
    def beyond_chance(self) -> bool:
        """Whether the figure grew by more than its noise explains."""
        return self.per_hour > SURE * self.error

    @property
    def grows(self) -> bool:
        """Beyond chance, and by more than is of interest."""
        return self.beyond_chance and self.share > FLAT

    @property
    def counts_up(self) -> bool:
        """For what is counted: beyond chance, and by one at least over the run."""
        return self.beyond_chance and self.per_hour * self.span_s / HOUR_S >= 1


def slope(segments: Iterable[Segment]) -> Slope | None:
    """Least squares with one slope and an intercept for each segment; None where there is too little to tell an error.

    Neighbouring samples are alike, which makes the usual standard error too small: it is widened as for residuals that
    follow an autoregression of first order.
    """
    kept = [segment for segment in segments if len(segment) > 2]
    samples = sum(map(len, kept))
    freedom = samples - len(kept) - 1
    if freedom < 1:
        return None
    centred = [_centred(segment) for segment in kept]
    spread = sum(t * t for points in centred for t, _ in points)
    per_s = sum(t * y for points in centred for t, y in points) / spread
    residuals = [[y - per_s * t for t, y in points] for points in centred]
    squares = sum(r * r for row in residuals for r in row)
    products = sum(a * b for row in residuals for a, b in pairwise(row))
    length = samples / len(kept)  # a fitted line hides likeness, the more the shorter a segment is
    alike = (products / squares + 2 / length) / max(1 - 4 / length, 0.1) if squares else 0.0
    alike = min(max(alike, 0.0), MOST_LIKE_THE_LAST)
    error = math.sqrt(squares / freedom / spread * (1 + alike) / (1 - alike))
    times = [point.at_s for segment in kept for point in segment]
    mean = sum(point.figure for segment in kept for point in segment) / samples
    span_s = max(times) - min(times)
    return Slope(per_s * HOUR_S, error * HOUR_S, mean, samples, len(kept), span_s)


def lows(segment: Segment, every_s: float) -> list[Point]:
    """The lowest figure of each span of time: connections come and go, what is never given back stays."""
    lowest: dict[int, Point] = {}
    for point in segment:
        span = int((point.at_s - segment[0].at_s) // every_s)
        lowest[span] = min(lowest.get(span, point), point, key=lambda one: one.figure)
    return list(lowest.values())


def _centred(segment: Segment) -> list[tuple[float, float]]:
    middle = sum(point.at_s for point in segment) / len(segment)
    level = sum(point.figure for point in segment) / len(segment)
    return [(point.at_s - middle, point.figure - level) for point in segment]
