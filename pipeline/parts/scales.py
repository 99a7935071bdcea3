"""Robust causal scales of a stream: its step, its level and spread, and one scale per horizon.

    q1 <- EW(d^2, 500)      s = sqrt(q1)        step scale, d = z_t - z_{t-1}
    qh <- EW(d_h^2, 500)    c_h = sqrt(qh)      horizon scale, d_h = z_t - z_{t-h}; h q1 before the first d_h
    reach: the largest |d_h| so far, cut as its square is
    m5, v5 mean and variance over 500 events, m2 over 200, mS over a season
    where the level moves by J (breaks.py), so do the means and the last H values; d and d_h are of values as they were

Clipping squared changes at 64 times their mean makes one spike harmless. All is in the units of z, the (transformed)
value; what is summed is in float64, so that levels far from zero cost no precision. The first events are not clipped: a
mad one among them (-9999 for "no reading") would count for thousands of events, in tables and sums too. So a stream
begins anew, once, when a change among them is far smaller than the one before it.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part

MEMORY = 500.0  # events
RECENT = 200.0
CLIP = 64.0  # squared changes above so many times their mean are cut
WARM = 20  # events before which nothing is cut
ABSURD = 1e3  # times the next change: so large is no change of a young stream
FLOOR = 1e-10  # of the smallest squared step: keeps divisions sane, whatever the units and a first value's size


def fields(method: Method) -> list[Field]:
    """Scales and the ring of the last values, as many as the longest span."""
    spans, kept = len(method.spans), int(method.spans.max())
    return [
        ("values", "f8", (kept,)),  # ring: z of event n at n mod its length, the longest span
        ("moved", "f4", (kept if method.full else 1,)),  # by how much each was moved since; lite moves none
        ("changes", "f4", (3,)),  # z_t - z_{t-1} and the two before
        ("unit2", "f8"),  # square of the smallest non-zero change
        ("step2", "f8"),  # q1, mean squared change
        ("mean", "f8"),  # m5
        ("variance", "f8"),  # v5
        ("recent_mean", "f8"),  # m2
        ("season_mean", "f8"),  # mS
        ("change2", "f8", (spans,)),  # qh, mean squared change over each span
        ("scale", "f4", (spans,)),  # its root: c_h, the unit in which a forecast of horizon h moves
        ("reach", "f4", (spans,)),  # the largest change over each span
        ("step_scale", "f4"),  # s, the root of step2
        ("spread", "f4"),  # that of the variance
        ("below_floor", "u1"),  # 1: a value that counts was
        ("begun_anew", "u1"),  # 1: after a mad value among the first
    ]


@kernel
def absurd_start(rows: Rows, events: Events, _fixed: Fixed) -> int:
    """Find which rows begin anew with these raw values (`absurd`), before the events are counted; how many."""
    many = 0
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        n = row["count"]
        event["absurd"] = False
        if n < 2 or n > WARM or row["begun_anew"] != 0:
            continue
        values = row["values"]
        change = abs(event["raw"] - values[(n - 1) % len(values)])
        if change > 0.0 and ABSURD * change < abs(row["changes"][0]):
            event["absurd"] = True
            many += 1
    return many


@kernel
def move_level(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Move the means and the values before the break to the new level, or back."""
    for b in range(len(events)):
        event = events[b]
        shift = event["shift"]
        if shift == 0.0:
            continue
        row = rows[event["row"]]
        n = event["n"]
        values = row["values"]
        moved = row["moved"]
        row["mean"] += shift
        row["recent_mean"] += shift
        row["season_mean"] += shift
        if event["since"] == n - 1:  # it moved there by less than it seemed to
            row["changes"][0] -= shift
        for o in range(max(n - len(values), 0), min(n, event["since"])):
            values[o % len(values)] += shift
            moved[o % len(moved)] += shift


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Take in z as event n of its stream. Overwrites the oldest value, so labels are scored before."""
    spans = fixed[0]["spans"]
    slots = fixed[0]["slots"]
    least = fixed[0]["least"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        values = row["values"]
        moved = row["moved"]
        changes = row["changes"]
        longest = len(values)
        count = event["n"]
        z = event["z"]
        if z < least:
            row["below_floor"] = 1
        if count == 0:
            row["mean"] = z
            row["recent_mean"] = z
            row["season_mean"] = z
            values[0] = z
            continue
        changes[2] = changes[1]
        changes[1] = changes[0]
        changes[0] = z - values[(count - 1) % longest]
        squared = (z - values[(count - 1) % longest] + moved[(count - 1) % len(moved)]) ** 2
        if squared > 0.0 and (row["unit2"] == 0.0 or squared < row["unit2"]):
            row["unit2"] = squared
        if count > WARM and row["step2"] > 0.0:
            squared = min(squared, CLIP * row["step2"])
        row["step2"] += max(1.0 / MEMORY, 1.0 / count) * (squared - row["step2"])
        floor = FLOOR * row["unit2"]
        row["step_scale"] = np.sqrt(row["step2"] + floor)

        rate = max(1.0 / MEMORY, 1.0 / (count + 1))
        deviation = z - row["mean"]
        row["mean"] += rate * deviation
        row["variance"] += rate * (deviation * deviation - row["variance"])
        row["spread"] = np.sqrt(row["variance"] + floor)
        row["recent_mean"] += max(1.0 / RECENT, 1.0 / (count + 1)) * (z - row["recent_mean"])
        row["season_mean"] += max(1.0 / slots, 1.0 / (count + 1)) * (z - row["season_mean"])

        change2 = row["change2"]
        scale = row["scale"]
        reach = row["reach"]
        for j in range(len(spans)):
            h = spans[j]
            labels = count - h + 1  # arrived for this span, with the present one
            if labels > 0:
                d = z - values[(count - h) % longest] + moved[(count - h) % len(moved)]
                squared = d * d
                if labels > WARM and change2[j] > 0.0:
                    squared = min(squared, CLIP * change2[j])
                change2[j] += max(1.0 / MEMORY, 1.0 / labels) * (squared - change2[j])
                scale[j] = np.sqrt(change2[j] + floor)
                reach[j] = max(reach[j], np.sqrt(squared))
            else:
                scale[j] = np.sqrt(h * row["step2"] + floor)
        values[count % longest] = z
        moved[count % len(moved)] = 0.0


PART = Part(fields, follow=(move_level,), measure=(learn,))
