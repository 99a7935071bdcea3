"""Breaks: where a stream's level has jumped and stays, all that is remembered as a level moves with it at once.

    a break by J at t (spikes.py), unless it was foreseen or leads back: |J - M_h(t-h)| > |J|/2 of the shortest
        horizon, |above + J| > |above|/2, above = z_{t-1} - pprev (- m5 without a season); or is less than half of
        one that is not over
    it moves tables of the season and the week, means and the last H values by J, so that no label spans the break;
        scales, errors and bands count the jump as it came
    for 96 events: doubt <- EW(1 where |z - pprev| of the level before < half of that of the level after, else 0, 6)
    it is mended where it goes back as fast, at the next event, or doubt > 0.6: what was there before t moves back by J
    trust is 0.5 at first, += 0.4 (1 - trust) after 48 events of a break, -= 0.4 trust where it is mended

A level moves while trust is above 0.5, or just 0.5 and after a held suspect; else breaks are only followed, to see
whether they stay. So a stream of short excursions moves once and then no more. Where the day has fine parts levels do
not move: what is switched on every day is rare there, and would not be learnt.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part
from pipeline.parts.season import NONE
from pipeline.parts.spikes import HALF, TAKEN, TRUSTED

DOUBT = 0.6
DOUBT_MEMORY = 6.0  # events
SETTLED = 48  # events after which a level counts as one that stays
OVER = 96  # events
LESSON = 0.4


def fields(_method: Method) -> list[Field]:
    """The last break, and how often levels stay."""
    return [
        ("broke_at", "i8"),  # the first event of its level
        ("broke_by", "f4"),  # J; 0: it is over
        ("broke_doubt", "f4"),
        ("broke_trust", "f4"),
        ("broke_moved", "u1"),  # 1: what is remembered has moved
    ]


def initialise(_method: Method, row: np.void) -> None:
    """Let a first level move that was held."""
    row["broke_trust"] = TRUSTED


@kernel
def follow(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Say by what levels move (`shift`), and from which event on values are of the level they move to (`since`)."""
    shortest = fixed[0]["horizons"][0]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        n = event["n"]
        event["shift"] = 0.0
        event["since"] = n
        if n == 0:
            continue
        jump = event["broke"]
        trust = row["broke_trust"]
        above = row["values"][(n - 1) % len(row["values"])]
        above -= row["mean"] if row["season"] == NONE else row["slot_before"][1]
        held = row["suspected"] != TAKEN
        foreseen = 0.0 if held else row["pending_move"][n % shortest] * row["pending_unit"][n % shortest]
        large = abs(jump) > HALF * abs(row["broke_by"])
        if large and abs(jump - foreseen) > HALF * abs(jump) and abs(above + jump) > HALF * abs(above):
            row["broke_at"] = n
            row["broke_by"] = jump
            row["broke_doubt"] = 0.0
            row["broke_moved"] = trust > TRUSTED or (trust == TRUSTED and held)
            event["shift"] = jump if row["broke_moved"] else 0.0
        elif row["broke_by"] != 0.0:
            old = above + row["broke_by"] if row["broke_moved"] else above
            nearer = 1.0 if abs(old) < HALF * abs(old - row["broke_by"]) else 0.0
            row["broke_doubt"] += (nearer - row["broke_doubt"]) / DOUBT_MEMORY
            if event["mended"] or row["broke_doubt"] > DOUBT:
                row["broke_trust"] -= LESSON * trust
                if row["broke_moved"]:
                    event["shift"] = -row["broke_by"]
                    event["since"] = row["broke_at"]
                row["broke_by"] = 0.0
            elif n - row["broke_at"] == SETTLED:
                row["broke_trust"] += LESSON * (1.0 - trust)
            elif n - row["broke_at"] == OVER:
                row["broke_by"] = 0.0


PART = Part(fields, initialise, arrive=(follow,))
