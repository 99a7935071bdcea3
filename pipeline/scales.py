"""Robust causal scales of a stream: its step, its level and spread, and one scale per horizon.

Clipping squared changes at 64 times their mean makes one spike harmless. All scales are in the units of z, the
(transformed) value, and in float64, so that levels far from zero cost no precision.
"""

import numpy as np

from pipeline.compiled import Field, Floats, Ints, Rows, kernel
from pipeline.method import Method

MEMORY = 500.0  # events
CLIP = 64.0  # squared changes above so many times their mean are cut
WARM = 20  # events before which nothing is cut
FLOOR = 1e-10  # of the smallest squared step: keeps divisions sane, whatever the units and a first value's size


def fields(method: Method) -> list[Field]:
    """Scales and the ring of the last H values."""
    z = len(method.horizons)
    return [
        ("values", "f8", (method.longest,)),  # ring: z of event n at n mod H
        ("change", "f8"),  # z_t - z_{t-1}
        ("unit2", "f8"),  # square of the smallest non-zero change
        ("step2", "f8"),  # mean squared change
        ("step_scale", "f8"),  # its root
        ("mean", "f8"),
        ("variance", "f8"),
        ("change2", "f8", (z,)),  # mean squared change over each horizon
        ("scale", "f8", (z,)),  # its root: c_h, the unit in which a forecast of horizon h moves
    ]


@kernel
def learn(rows: Rows, index: Ints, n: Ints, z: Floats, horizons: Ints) -> None:
    """Take in z (B,) as event n (B,) of its stream. Overwrites the value H events back, so labels are scored before."""
    longest = horizons[-1]
    for b in range(len(index)):
        row = rows[index[b]]
        values = row["values"]
        count = n[b]
        if count == 0:
            row["mean"] = z[b]
            values[0] = z[b]
            continue
        change = z[b] - values[(count - 1) % longest]
        row["change"] = change
        squared = change * change
        if squared > 0.0 and (row["unit2"] == 0.0 or squared < row["unit2"]):
            row["unit2"] = squared
        if count > WARM and row["step2"] > 0.0:
            squared = min(squared, CLIP * row["step2"])
        row["step2"] += max(1.0 / MEMORY, 1.0 / count) * (squared - row["step2"])
        floor = FLOOR * row["unit2"]
        row["step_scale"] = np.sqrt(row["step2"] + floor)

        rate = max(1.0 / MEMORY, 1.0 / (count + 1))
        deviation = z[b] - row["mean"]
        row["mean"] += rate * deviation
        row["variance"] += rate * (deviation * deviation - row["variance"])

        change2 = row["change2"]
        scale = row["scale"]
        for j in range(len(horizons)):
            h = horizons[j]
            labels = count - h + 1  # arrived for this horizon, with the present one
            if labels > 0:
                d = z[b] - values[(count - h) % longest]
                squared = d * d
                if labels > WARM and change2[j] > 0.0:
                    squared = min(squared, CLIP * change2[j])
                change2[j] += max(1.0 / MEMORY, 1.0 / labels) * (squared - change2[j])
                scale[j] = np.sqrt(change2[j] + floor)
            else:
                scale[j] = np.sqrt(h * row["step2"] + floor)
        values[count % longest] = z[b]
