"""What is summed over a stream's scored forecasts: errors of the forecast and of what it must beat, bands, losses."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Floats, Ints
from pipeline.method import Method

FORECAST, LAST, SEASONAL, PARTS = 0, 1, 2, 3  # who forecast: the method, last value, seasonal naive, then single parts
BLOCK = 25  # events
GROUPS = 10  # of blocks, one of which is left out at a time


@dataclass
class Tally:
    """Sums over one stream's scored forecasts, by horizon, in the target's own units.

    F who forecast: the method, the last value, the seasonal naive, and single parts in the order of `part_names`.
    """

    events: int  # accepted, scored or not
    outliers: int  # of these
    n: Floats  # (Z,)
    squared: Floats  # (Z, F)
    absolute: Floats  # (Z, F)
    capped: Floats  # (Z, F) squared, each error at most so many horizon scales, without outliers
    inside: Floats  # (Z, bands)
    width: Floats  # (Z, bands)
    pinball: Floats  # (Z,) mean over the levels
    blocks: Floats  # (blocks, Z, PARTS) what is summed in `capped`, by the time when forecasts were made

    @classmethod
    def blank(cls, method: Method, parts: int) -> "Tally":
        """A tally of which nothing is scored yet."""
        n, pinball = np.zeros((2, len(method.horizons)))
        inside, width = np.zeros((2, len(method.horizons), method.bands))
        squared, absolute, capped = np.zeros((3, len(method.horizons), PARTS + parts))
        blocks = np.zeros((0, len(method.horizons), PARTS))
        return cls(0, 0, n, squared, absolute, capped, inside, width, pinball, blocks)

    def add_capped(self, j: int, made: Ints, squared: Floats) -> None:
        """Add capped squared errors (n, F) at horizon index `j` of forecasts made at event indices `made` (n,)."""
        self.capped[j] += squared.sum(axis=0)
        if len(made):
            place = made // BLOCK
            more = int(place[-1]) + 1 - len(self.blocks)
            if more > 0:
                self.blocks = np.concatenate([self.blocks, np.zeros((more, *self.blocks.shape[1:]))])
            np.add.at(self.blocks[:, j], place, squared[:, :PARTS])

    @property
    def skill(self) -> Floats:
        """(Z,) 1 - capped squared error / that of the last value; NaN where the last value was never wrong."""
        return self.skills()[:, FORECAST]

    def skills(self, beside: int = LAST) -> Floats:
        """(Z, F) the same of all who forecast, beside one of them."""
        base = self.capped[:, beside, None]
        return np.where(base == 0, np.nan, 1 - self.capped / np.where(base == 0, 1, base))

    def mean_skill(self, beside: int = LAST) -> tuple[float, float]:
        """Return the mean over horizons of the forecast's skill beside another, and its standard error.

        The error is the delete-a-group jackknife's (Quenouille 1956, Tukey 1958) over ten spans of time, infinite where
        there are not two; both are NaN where the other was never wrong.
        """
        blocks = self.blocks[self.blocks.any((1, 2))]
        skill, groups = _mean_skill(blocks.sum(0), beside), min(GROUPS, len(blocks))
        if math.isnan(skill) or groups < 2:
            return skill, math.nan if math.isnan(skill) else math.inf
        each = np.add.reduceat(blocks, np.arange(groups) * len(blocks) // groups)
        left = np.array([_mean_skill(each.sum(0) - group, beside) for group in each])
        left = left[~np.isnan(left)]
        return skill, math.sqrt((groups - 1) / groups * float(((left - left.mean()) ** 2).sum()))

    @property
    def coverage(self) -> Floats:
        """(Z, bands) share of labels inside; NaN where nothing was scored."""
        return self.inside / self._scored

    @property
    def mean_width(self) -> Floats:
        """(Z, bands) of the bands; NaN where nothing was scored."""
        return self.width / self._scored

    @property
    def _scored(self) -> Floats:
        return np.where(self.n > 0, self.n, np.nan)[:, None]


def _mean_skill(capped: Floats, beside: int) -> float:
    """Over the horizons of sums (Z, PARTS) at which the other was wrong; NaN where it never was."""
    wrong = capped[capped[:, beside] > 0]
    return float((1 - wrong[:, FORECAST] / wrong[:, beside]).mean()) if len(wrong) else math.nan


Tallies = dict[str, Tally]  # by stream
