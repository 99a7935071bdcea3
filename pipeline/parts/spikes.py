"""Spike hold: a suspect value is replaced by the last one, unless the stream's suspects are known to stay.

    suspect: |z_t - z_{t-1}| > 12 s > 0, t > 20, at most 3 steps after t-1, which was not suspect; rho is 0.75 at first
    at the next event: r = clip((z_{t+1} - z_t) / (z_{t-1} - z_t), 0..1), rho += 0.2 (r - rho)
    while rho > 0.7 a suspect value counts as z_{t-1}; so do up to two more in a row that are twice as far from it
    z_{t+1} stays where |z_{t+1} - z_t| < 0.3 |z_t - z_{t-1}|: then a held suspect was a break; any other is one at once
    one that stays is held too, unless the last such run was a level for more than 3 events

So the first suspect is held, and after one that stayed it takes two that go back before another is. The replaced
value is what everything else learns from and starts at; the raw one is reported and scored. At the first suspect, when
nothing tells yet whether they go back, forecasts are moves from the raw value: they lose to the last value neither way.

What a break changes, and what ends it, is breaks.py, which knows how often levels stay: where they do, 10 s are
suspect once rho <= 0.7. Then a jump back to a level of up to 24 events before is no suspect; up to 3, rho learns from
it as r = 1. Up to event 240, for two seasons, in `lite` and where days have fine parts, or will have them, there are
no breaks, and no second suspect is held.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.fine import BYTES, FINER
from pipeline.parts.part import Part
from pipeline.parts.scales import WARM
from pipeline.parts.season import DAY, DAY_MS

SUSPECT = 12.0  # step scales
LESS = 10.0  # where levels stay
AGAIN = 2.0  # times that the next one is held too
MOST = 3  # that are held in a row
RATE = 0.2
HELD = 0.7
GAP = 3  # steps: after more of them a value may well be another
FIRST = 0.75  # above HELD by less than RATE takes away: one that stays ends the hold; in float32 without rounding
STAYS = 0.3  # of the jump
YOUNG = 240  # events before which levels do not move, or two seasons: the season is not known yet
SHORT = 24  # events of a level after which a jump back is another break
HALF = 0.5  # of the jump: so near to where a break came from it has gone back
TAKEN = 4  # in place of a number of suspects: the last event was one and was not held
TRUSTED = 0.5  # from which on levels move


def fields(_method: Method) -> list[Field]:
    """The last suspect, the value before it, and how far suspects go back."""
    return [
        ("suspect", "f8", (2,)),  # the raw value, the value before it
        ("suspected", "u1"),  # how many events in a row were held, with the last one; TAKEN
        ("runs_return", "u1"),  # 1: two or three equal suspects in a row are expected to go back, too
        ("return_share", "f4"),  # rho
    ]


def initialise(_method: Method, row: np.void) -> None:
    """Expect that a stream's first suspect goes back."""
    row["return_share"] = FIRST
    row["runs_return"] = 1


def fixed(method: Method) -> Mapping[str, npt.ArrayLike]:
    """Whether levels move."""
    return {"levels_move": method.full}


@kernel
def hold(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Set `z`, what each raw value counts as, `base`, what forecasts are moves from, and by what the level broke."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        raw = event["raw"]
        event["z"] = raw
        event["base"] = raw
        event["broke"] = 0.0
        event["mended"] = False
        if event["n"] == 0:
            continue
        suspect = row["suspect"]
        rho = row["return_share"]
        count = row["suspected"]
        last = row["values"][(event["n"] - 1) % len(row["values"])]
        soon = event["elapsed_ms"] <= GAP * event["step_ms"]
        slots = fixed[0]["slots"]
        step_ms = event["step_ms"]
        coarse = step_ms > 0 and min(np.rint(DAY_MS / step_ms), BYTES) < FINER * slots
        moves = (coarse or row["season"] != DAY) and event["n"] > max(YOUNG, 2 * slots) and fixed[0]["levels_move"]
        ago = event["n"] - row["broke_at"]
        returns = abs(raw - (last - row["broke_by"])) < HALF * abs(raw - last)  # to before the last break
        least = (LESS if rho <= HELD and row["broke_trust"] > TRUSTED else SUSPECT) * row["step_scale"]
        far = abs(raw - last) > least
        held = False
        row["suspected"] = 0
        if count > 0:
            stays = abs(raw - suspect[0]) < STAYS * abs(suspect[0] - suspect[1])
            held = moves and soon and count < MOST and abs(raw - suspect[1]) > AGAIN * least
            held = held and (not stays or row["runs_return"] != 0)
            if not held:
                back = min(max((raw - suspect[0]) / (suspect[1] - suspect[0]), 0.0), 1.0)
                row["return_share"] += RATE * (back - rho)
                if moves and stays and count != TAKEN:
                    row["runs_return"] = ago <= MOST and returns
                    event["broke"] = np.float32(suspect[0] - suspect[1])
                event["mended"] = count == TAKEN and not stays and ago == 1
        elif returns and far and ago <= SHORT and rho <= HELD:
            event["mended"] = True
            if ago <= MOST:
                row["runs_return"] = 1
                row["return_share"] += RATE * (1.0 - rho)
        elif event["n"] > WARM and soon and far and least > 0.0:
            suspect[1] = last
            held = rho > HELD
            if not held:
                suspect[0] = raw
                row["suspected"] = TAKEN
                event["broke"] = np.float32(raw - last) if moves else 0.0
        if held:
            suspect[0] = raw
            row["suspected"] = count + 1
            event["z"] = last
            if rho != FIRST:
                event["base"] = last


PART = Part(fields, initialise, fixed, arrive=(hold,))
