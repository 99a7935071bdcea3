"""A second table over the week, seven times the season's slots: what this hour of this weekday is like.

    wk[slot(t)] += 0.25 (z_t - wk[slot(t)]),  week_h = wk[slot(t+h)] (z_t if never seen)

Only the stacking reads it. Streams without a season by the clock leave it alone.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part
from pipeline.parts.season import BOUND, DAY, DAY_MS, WEEK

RATE = 0.25
WEEK_MS = 7 * DAY_MS


def fields(method: Method) -> list[Field]:
    """The table, as differences from the first value: so float32 is enough; NaN where a slot was never seen."""
    return [("week", "f4", (7 * method.season_slots,)), ("week_base", "f8")]


def initialise(_method: Method, row: np.void) -> None:
    """Mark every slot as never seen."""
    row["week"][:] = np.nan


@kernel
def move_level(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Move the table to the new level; or back, where what has come since stays."""
    for b in range(len(events)):
        event = events[b]
        shift = event["shift"]
        if shift == 0.0:
            continue
        row = rows[event["row"]]
        week = row["week"]
        row["week_base"] += shift
        came_ms = event["time_ms"] - (event["n"] - event["since"]) * event["step_ms"]
        for i in range(min((event["n"] - event["since"]) * event["step_ms"] * len(week) // WEEK_MS, len(week))):
            week[(came_ms * len(week) // WEEK_MS + i) % len(week)] -= shift


@kernel
def learn(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Take z into the slot of its time."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        week = row["week"]
        if event["n"] == 0:
            row["week_base"] = event["z"]
        z = event["z"] - row["week_base"]
        if row["season"] == DAY or row["season"] == WEEK:
            s = (event["time_ms"] % WEEK_MS) * len(week) // WEEK_MS
            if np.isnan(week[s]):
                week[s] = z
            week[s] += RATE * (z - week[s])


@kernel
def move(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """The week's forecast as moves from z in horizon scales."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        week = row["week"]
        scale = row["scale"]
        target_ms = event["time_ahead_ms"]
        moves = event["week_move"]
        for j in range(len(moves)):
            moves[j] = 0.0
            if scale[j] > 0.0 and (row["season"] == DAY or row["season"] == WEEK):
                slot = week[(target_ms[j] % WEEK_MS) * len(week) // WEEK_MS]
                if not np.isnan(slot):
                    moves[j] = min(max((slot + row["week_base"] - event["z"]) / scale[j], -BOUND), BOUND)


PART = Part(
    fields,
    initialise,
    takes_part=lambda method: method.has_week,
    arrive=(move_level,),
    learn=(learn,),
    forecast=(move,),
)
