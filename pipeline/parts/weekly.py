"""A second table over the week, seven times the season's slots: what this hour of this weekday is like.

    wk[slot(t)] += 0.25 (z_t - wk[slot(t)]),  week_h = wk[slot(t+h)] (z_t if never seen)
    a jump by J is no break (breaks.py) where weeks before had one too, there or up to 3 slots later, if it was held:
        |J - (wk[slot(t)] - wk[slot before])| < |J|/2

The stacking reads its forecast, the linear expert the step that it has here: wk[slot(t+1)] - wk[slot(t)], the latter
before z was taken in; 0 where both are one slot, or one was never seen. Streams without a season by the clock leave it
alone.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part
from pipeline.parts.season import BOUND, DAY, DAY_MS, WEEK
from pipeline.parts.spikes import HALF, MOST, TAKEN

RATE = 0.25
WEEK_MS = 7 * DAY_MS


def fields(method: Method) -> list[Field]:
    """The table, as differences from the first value: so float32 is enough; NaN where a slot was never seen."""
    return [("week", "f4", (7 * method.season_slots,)), ("week_base", "f8")]


def initialise(_method: Method, row: np.void) -> None:
    """Mark every slot as never seen."""
    row["week"][:] = np.nan


@kernel
def foresee(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Take a jump that the table foretells for no break."""
    for b in range(len(events)):
        event = events[b]
        jump = event["broke"]
        if jump == 0.0:
            continue
        row = rows[event["row"]]
        week = row["week"]
        now_ms = event["time_ms"]
        held_ms = MOST * event["step_ms"]  # at most
        before_ms = now_ms - event["elapsed_ms"] - (0 if row["suspected"] == TAKEN else held_ms)
        before = week[before_ms % WEEK_MS * len(week) // WEEK_MS]
        now = week[now_ms % WEEK_MS * len(week) // WEEK_MS]
        later = week[(now_ms + held_ms) % WEEK_MS * len(week) // WEEK_MS]
        near = HALF * abs(jump)
        if abs(jump - (now - before)) < near or abs(jump - (later - before)) < near:  # not where one was never seen
            event["broke"] = 0.0


@kernel
def move_level(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Move the table to the new level, or back: what came since was taken in beside that level."""
    for b in range(len(events)):
        rows[events[b]["row"]]["week_base"] += events[b]["shift"]


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
        event["week_step"] = np.nan
        if row["season"] == DAY or row["season"] == WEEK:
            s = (event["time_ms"] % WEEK_MS) * len(week) // WEEK_MS
            event["week_step"] = -week[s]  # until the next slot is known
            if np.isnan(week[s]):
                week[s] = z
            week[s] += RATE * (z - week[s])


@kernel
def move(rows: Rows, events: Events, fixed: Fixed) -> None:
    """The week's forecast as moves from z in horizon scales, and the step that it has here."""
    one = fixed[0]["fractions"][0]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        week = row["week"]
        scale = row["scale"]
        target_ms = event["time_ahead_ms"]
        moves = event["week_move"]
        here = event["time_ms"] % WEEK_MS * len(week) // WEEK_MS
        next_ = target_ms[one] % WEEK_MS * len(week) // WEEK_MS
        step = event["week_step"] + week[next_]
        event["week_step"] = 0.0 if next_ == here or np.isnan(step) else step
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
    arrive=(foresee,),
    follow=(move_level,),
    learn=(learn,),
    forecast=(move,),
)
