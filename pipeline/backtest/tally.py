"""What is summed over a stream's scored forecasts: errors of the forecast and of what it must beat, bands, losses."""

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Floats
from pipeline.method import Method

FORECAST, LAST, SEASONAL, PARTS = 0, 1, 2, 3  # who forecast: the method, last value, seasonal naive, then single parts


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

    @classmethod
    def blank(cls, method: Method, parts: int) -> "Tally":
        """A tally of which nothing is scored yet."""
        n, pinball = np.zeros((2, len(method.horizons)))
        inside, width = np.zeros((2, len(method.horizons), method.bands))
        squared, absolute, capped = np.zeros((3, len(method.horizons), PARTS + parts))
        return cls(0, 0, n, squared, absolute, capped, inside, width, pinball)

    @property
    def skill(self) -> Floats:
        """(Z,) 1 - capped squared error / that of the last value; NaN where the last value was never wrong."""
        return self.skills()[:, FORECAST]

    def skills(self, beside: int = LAST) -> Floats:
        """(Z, F) the same of all who forecast, beside one of them."""
        base = self.capped[:, beside, None]
        return np.where(base == 0, np.nan, 1 - self.capped / np.where(base == 0, 1, base))

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


Tallies = dict[str, Tally]  # by stream
