"""A second table over the week, seven times the season's slots: what this hour of this weekday is like.

    wk[slot(t)] += 0.25 (z_t - wk[slot(t)]),  week_h = wk[slot(t+h)] (z_t if never seen)

Only the stacking reads it. Streams without a season by the clock leave it alone.
"""

import numpy as np

from pipeline.arrays import Field, Floats, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.season import BOUND, DAY, DAY_MS, WEEK

RATE = 0.25
WEEK_MS = 7 * DAY_MS


def fields(method: Method) -> list[Field]:
    """The table; NaN where a slot was never seen."""
    return [("week", "f8", (7 * method.season_slots,))] if method.has_week else []


def initialise(method: Method, row: np.void) -> None:
    """Set what does not start at zero."""
    if method.has_week:
        row["week"][:] = np.nan


@kernel
def learn(rows: Rows, index: Ints, z: Floats, time_ms: Ints) -> None:
    """Take in z (B,)."""
    for b in range(len(index)):
        row = rows[index[b]]
        week = row["week"]
        if row["season"] == DAY or row["season"] == WEEK:
            s = (time_ms[b] % WEEK_MS) * len(week) // WEEK_MS
            if np.isnan(week[s]):
                week[s] = z[b]
            week[s] += RATE * (z[b] - week[s])


@kernel
def move(rows: Rows, index: Ints, z: Floats, target_ms: Ints, moves: Floats) -> None:
    """The week's forecast as moves (B, Z) from z in horizon scales."""
    for b in range(len(index)):
        row = rows[index[b]]
        week = row["week"]
        scale = row["scale"]
        for j in range(moves.shape[1]):
            moves[b, j] = 0.0
            if scale[j] > 0.0 and (row["season"] == DAY or row["season"] == WEEK):
                said = week[(target_ms[b, j] % WEEK_MS) * len(week) // WEEK_MS]
                if not np.isnan(said):
                    moves[b, j] = min(max((said - z[b]) / scale[j], -BOUND), BOUND)
