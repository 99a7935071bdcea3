"""What the network sees of an event: change, level and season in the stream's own scales, time of day and of week.

x = [clip(d/s, 6), clip((z-m5)/sd, 6), clip((sn_1-prev)/s, 6), clip((z-prev)/sd, 6), clip((z-mS)/sd, 6),
     clip((pf_k-z)/c_k, 6) for the fractions k of H, sin and cos of the day, of half a day, of the week]
"""

import numpy as np

from pipeline.arrays import Floats, Floats32, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import OWN_INPUTS, TIME_INPUTS, Method

CLIP = 6.0
OWN = OWN_INPUTS  # before those of the fractions
TIMES = TIME_INPUTS  # after those
DAY_MS = 86_400_000.0
WEEK_MS = 7 * DAY_MS
TURNS = 2 * np.pi / np.array([DAY_MS, DAY_MS / 2, WEEK_MS])  # per ms


def own_width(method: Method) -> int:
    """Inputs that are not the time's, the first ones."""
    return OWN + len(method.fractions)


def times(time_ms: Ints) -> Floats32:
    """The inputs (..., 6) that tell the time, of times (...,) in ms: those of `build`, but for a last bit."""
    angles = time_ms[..., None] * TURNS
    found = np.empty((*time_ms.shape, TIMES), np.float32)
    found[..., ::2], found[..., 1::2] = np.sin(angles), np.cos(angles)
    return found


@kernel
def build(
    rows: Rows,
    index: Ints,  # (B,)
    z: Floats,  # (B,)
    time_ms: Ints,  # (B,)
    naive: Floats,  # (B, K) sn by span
    profile: Floats,  # (B, K) pf by span
    fractions: Ints,  # (5,) their places among the spans; the first is 1
    x: Floats32,  # (B, F) out
) -> None:
    """Fill the inputs; a scale of zero gives an input of zero."""
    for b in range(len(index)):
        row = rows[index[b]]
        scale = row["scale"]
        prev = row["slot_before"][0]
        s = row["step_scale"]
        sd = row["spread"]
        times = OWN + len(fractions)
        x[b, :] = 0.0
        if s > 0.0:
            x[b, 0] = min(max(row["changes"][0] / s, -CLIP), CLIP)
            x[b, 2] = min(max((naive[b, fractions[0]] - prev) / s, -CLIP), CLIP)
        if sd > 0.0:
            x[b, 1] = min(max((z[b] - row["mean"]) / sd, -CLIP), CLIP)
            x[b, 3] = min(max((z[b] - prev) / sd, -CLIP), CLIP)
            x[b, 4] = min(max((z[b] - row["season_mean"]) / sd, -CLIP), CLIP)
        for f in range(len(fractions)):
            k = fractions[f]
            if scale[k] > 0.0:
                x[b, OWN + f] = min(max((profile[b, k] - z[b]) / scale[k], -CLIP), CLIP)
        day = 2.0 * np.pi * (time_ms[b] % DAY_MS) / DAY_MS
        week = 2.0 * np.pi * (time_ms[b] % WEEK_MS) / WEEK_MS
        x[b, times] = np.sin(day)
        x[b, times + 1] = np.cos(day)
        x[b, times + 2] = np.sin(2.0 * day)
        x[b, times + 3] = np.cos(2.0 * day)
        x[b, times + 4] = np.sin(week)
        x[b, times + 5] = np.cos(week)
