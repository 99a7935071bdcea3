"""Breaks: where a stream's level has jumped and stays, all that is remembered as a level moves with it at once.

    a break by J at t (spikes.py), unless it was foreseen: |J - M_h(t-h)| <= |J|/2 of the shortest horizon, or by the
        week (weekly.py); or leads to the profile: |above + J| <= |above|/2, above = z_{t-1} - pprev (- m5 without a
        season); or is less than half of one that lasts, for 96 events
    it moves tables of the season and the week, means and the last H values by J, so that no label spans the break;
        scales, errors and bands count the jump as it came
    while it lasts: doubt <- EW(1 where |z - pprev| of the level before < half of that of the level after, else 0, 6)
    it is mended where it goes back at the next event or doubt > 0.6: what was there before t moves back by J
    a jump leads back where |J + J'| < |J|/8 of the last break J', or in its first 24 events to half of J', or where J'
        did not move to the profile; while a moved J' lasts, all moves back with it, and it is no other break
    trust is 0.5 at first, += (1 - trust)/3 after 48 events of a break that did not lead back, -= trust/3 where one that
        lasts is mended or left, -= trust/8 where a jump leads back later

A level moves while trust is above 0.5, or just 0.5 and after a held suspect or where the last break moved and lasts;
else breaks are only followed, to see whether they stay. So a stream of short excursions, or of two levels, moves once
and back and then no more. Where the day has fine parts levels do not move: what is switched on every day is rare there,
and would not be learnt.
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
LASTS = 96  # events
LESSON = 1 / 3
HINT = 1 / 8  # walks among levels lead back too, two levels by turns always
SAME = 1 / 8  # of the jump: levels so near are one


def fields(_method: Method) -> list[Field]:
    """The last break, and how often levels stay."""
    return [
        ("broke_at", "i8"),  # the first event of its level
        ("broke_by", "f4"),  # J; 0: its level is left
        ("broke_doubt", "f4"),
        ("broke_trust", "f4"),
        ("broke_moved", "u1"),  # 1: what is remembered has moved
        ("broke_back", "u1"),  # 1: it led back
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
        jump = event["broke"]
        by = row["broke_by"]
        if jump == 0.0 and by == 0.0:
            continue
        above = row["values"][(n - 1) % len(row["values"])]
        above -= row["mean"] if row["season"] == NONE else row["slot_before"][1]
        held = row["suspected"] != TAKEN
        foreseen = 0.0 if held else row["pending_move"][n % shortest] * row["pending_unit"][n % shortest]
        lasts = by != 0.0 and n - row["broke_at"] <= LASTS
        moved = lasts and row["broke_moved"] != 0
        home = jump != 0.0 and abs(above + jump) <= HALF * abs(above)
        back = abs(jump + by) < SAME * abs(jump) or (home and row["broke_moved"] == 0)
        back = by != 0.0 and (back or (event["mended"] and n - row["broke_at"] > 1))
        if back:
            row["broke_trust"] -= (LESSON if lasts else HINT) * row["broke_trust"]
        trust = row["broke_trust"]
        large = jump != 0.0 and (not lasts or abs(jump) > HALF * abs(by))
        if large and abs(jump - foreseen) > HALF * abs(jump) and not home and not (back and moved):
            row["broke_at"] = n
            row["broke_by"] = jump
            row["broke_doubt"] = 0.0
            row["broke_back"] = back
            row["broke_moved"] = trust > TRUSTED or (trust == TRUSTED and (held or moved))
            event["shift"] = jump if row["broke_moved"] else 0.0
        elif back:
            event["shift"] = -by if moved else 0.0
            row["broke_by"] = 0.0
        elif lasts:
            old = above + by if moved else above
            nearer = 1.0 if abs(old) < HALF * abs(old - by) else 0.0
            row["broke_doubt"] += (nearer - row["broke_doubt"]) / DOUBT_MEMORY
            if event["mended"] or row["broke_doubt"] > DOUBT:
                row["broke_trust"] -= LESSON * trust
                if moved:
                    event["shift"] = -by
                    event["since"] = row["broke_at"]
                row["broke_by"] = 0.0
            elif n - row["broke_at"] == SETTLED and row["broke_back"] == 0:
                row["broke_trust"] += LESSON * (1.0 - trust)


PART = Part(fields, initialise, follow=(follow,))
