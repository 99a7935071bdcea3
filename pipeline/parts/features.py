"""What the network sees of an event: change, level and season in the stream's own scales, time of day and of week.

x = [clip(d/s, 6), clip((z-m5)/sd, 6), clip((sn_1-prev)/s, 6), clip((z-prev)/sd, 6), clip((z-mS)/sd, 6),
     clip((pf_k-z)/c_k, 6) for k of 1, 3, 6, 12 and 24, sin and cos of the day, of half a day, of the week]
"""

import numpy as np

from pipeline.arrays import Events, Fixed, Floats32, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import LOOKS, OWN_INPUTS, TIME_INPUTS
from pipeline.parts.part import Part

CLIP = 6.0
OWN = OWN_INPUTS  # before those of the season ahead
TIMES = TIME_INPUTS  # after those
WIDTH = OWN + len(LOOKS)  # inputs that are not the time's, the first ones
DAY_MS = 86_400_000.0
WEEK_MS = 7 * DAY_MS
NAMES = (  # of the inputs x where weights are kept that read them; another meaning needs another name
    *("change", "level", "season-change", "from-season", "from-season-mean", *(f"profile-{k}" for k in LOOKS)),
    *("sin-day", "cos-day", "sin-half-day", "cos-half-day", "sin-week", "cos-week"),
)
TURNS = 2 * np.pi / np.array([DAY_MS, DAY_MS / 2, WEEK_MS])  # per ms


def times(time_ms: Ints) -> Floats32:
    """The inputs (..., 6) that tell the time, of times (...,) in ms: those of `build`, but for a last bit."""
    angles = time_ms[..., None] * TURNS
    found = np.empty((*time_ms.shape, TIMES), np.float32)
    found[..., ::2], found[..., 1::2] = np.sin(angles), np.cos(angles)
    return found


@kernel
def build(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Fill the inputs x; a scale of zero gives an input of zero."""
    looks = fixed[0]["looks"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        z = event["z"]
        time_ms = event["time_ms"]
        naive = event["seasonal_ahead"]
        profile = event["profile_ahead"]
        x = event["x"]
        scale = row["scale"]
        prev = row["slot_before"][0]
        s = row["step_scale"]
        sd = row["spread"]
        x[:] = 0.0
        if s > 0.0:
            x[0] = min(max(row["changes"][0] / s, -CLIP), CLIP)
            x[2] = min(max((naive[looks[0]] - prev) / s, -CLIP), CLIP)
        if sd > 0.0:
            x[1] = min(max((z - row["mean"]) / sd, -CLIP), CLIP)
            x[3] = min(max((z - prev) / sd, -CLIP), CLIP)
            x[4] = min(max((z - row["season_mean"]) / sd, -CLIP), CLIP)
        for f in range(len(looks)):
            k = looks[f]
            if scale[k] > 0.0:
                x[OWN + f] = min(max((profile[k] - z) / scale[k], -CLIP), CLIP)
        day = 2.0 * np.pi * (time_ms % DAY_MS) / DAY_MS
        week = 2.0 * np.pi * (time_ms % WEEK_MS) / WEEK_MS
        x[WIDTH] = np.sin(day)
        x[WIDTH + 1] = np.cos(day)
        x[WIDTH + 2] = np.sin(2.0 * day)
        x[WIDTH + 3] = np.cos(2.0 * day)
        x[WIDTH + 4] = np.sin(week)
        x[WIDTH + 5] = np.cos(week)


PART = Part(look_ahead=(build,))
