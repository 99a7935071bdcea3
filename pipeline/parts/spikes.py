"""Spike hold: a suspect value is replaced by the last one, unless the stream's suspects are known to stay.

    suspect: |z_t - z_{t-1}| > 12 s > 0, t > 20, at most 3 steps after t-1, which was not suspect; rho is 0.75 at first
    at the next event: r = clip((z_{t+1} - z_t) / (z_{t-1} - z_t), 0..1), rho += 0.2 (r - rho)
    while rho > 0.7 a suspect value counts as z_{t-1}

So the first suspect is held, and after one that stayed it takes two that go back before another is. The replaced
value is what everything else learns from and starts at; the raw one is reported and scored. At the first suspect, when
nothing tells yet whether they go back, forecasts are moves from the raw value: they lose to the last value neither way.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part
from pipeline.parts.scales import WARM

SUSPECT = 12.0  # step scales
RATE = 0.2
HELD = 0.7
GAP = 3  # steps: after more of them a value may well be another
FIRST = 0.75  # above HELD by less than RATE takes away: one that stays ends the hold; in float32 without rounding


def fields(_method: Method) -> list[Field]:
    """The last suspect, the value before it, and how far suspects go back."""
    return [
        ("suspect", "f8", (2,)),  # the raw value, the value before it
        ("suspected", "u1"),  # 1: the last event was suspect
        ("return_share", "f4"),  # rho
    ]


def initialise(_method: Method, row: np.void) -> None:
    """Expect that a stream's first suspect goes back."""
    row["return_share"] = FIRST


@kernel
def hold(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Set `z`, what each raw value counts as, and `base`, what forecasts are moves from."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        n = event["n"]
        raw = event["raw"]
        event["z"] = raw
        event["base"] = raw
        if n == 0:
            continue
        suspect = row["suspect"]
        values = row["values"]
        last = values[(n - 1) % len(values)]
        if row["suspected"] == 1:
            row["suspected"] = 0
            back = (raw - suspect[0]) / (suspect[1] - suspect[0])
            row["return_share"] += RATE * (min(max(back, 0.0), 1.0) - row["return_share"])
        elif (
            n > WARM
            and event["elapsed_ms"] <= GAP * event["step_ms"]
            and abs(raw - last) > SUSPECT * row["step_scale"] > 0.0
        ):
            row["suspected"] = 1
            suspect[0] = raw
            suspect[1] = last
            if row["return_share"] > HELD:
                event["z"] = last
                if row["return_share"] != FIRST:
                    event["base"] = last


PART = Part(fields, initialise, arrive=(hold,))
