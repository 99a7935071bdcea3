"""Unrest: how large a stream's errors are lately beside what they usually are, and how far each horizon's go with that.

    w = |e|/clip(u', .5..1.2) of the shortest horizon, from the 21st label on at most 8 max(m500, c/50)
    m10, m50, m500 <- EW(w, 10), EW(w, 50), EW(w, 500);  r = clip((.6 m10 + .4 m50)/m500, .4..5), each at least c/50
    f_h = 1 + g_h (r - 1): widths are so many times what they would be without
    at the label of o, from the 21st on:  y = |e|/(f_h(o) clip(u', .5..1.2) sigma), at most 8;  x = (r(o) - 1)/f_h(o)
        B_h += x^2 - (B_h - 5)/500;  g_h <- clip(g_h + x (y - 1)/B_h, 0..1.1);  at first B_h = 5, g_h = .7

Where a stream jumps, its next errors are large too; those one step ahead tell it first, over some ten events and over
some fifty (as in Corsi, "A simple approximate long-memory model of realized volatility", 2009). What is usual is a mean
of the same errors, so a level of them that stays is none. How far a horizon's errors follow is learnt: g moves up the
likelihood of errors as Laplace's law has them, by steps that its curvature bounds. The lite profile has none of this.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part

SHORT, MIDDLE, USUAL = 10.0, 50.0, 500.0  # labels
OF_SHORT, OF_MIDDLE = 0.6, 0.4
CALMEST, WILDEST = 0.4, 5.0
CLIP = 8.0  # an error above so many times the usual one is cut
WARM = 20
LEAST_ERROR = 0.02  # least mean, in horizon scales: a sensor that is stuck for good is no calm
GAIN, MOST_GAIN = 0.7, 1.1
PRIOR = 5.0  # squares that the first gain is worth
MEMORY = 500.0  # labels


def fields(method: Method) -> list[Field]:
    """Three means, what waits for labels, and the gains."""
    kept, z, means = (int(method.spans.max()), len(method.horizons), 3) if method.full else (0, 0, 0)
    return [
        ("unrest", "f4", (kept,)),  # ring: r of event n at n mod its length, that of the last values
        ("unrest_means", "f4", (means,)),
        ("unrest_gain", "f4", (z,)),  # g
        ("unrest_known", "f4", (z,)),  # B
    ]


def initialise(_method: Method, row: np.void) -> None:
    """Begin with what is usual, and with gains that are nearly right for most."""
    row["unrest"][:] = 1.0
    row["unrest_gain"][:] = GAIN
    row["unrest_known"][:] = PRIOR


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Learn from errors in widths how far to follow, and from the shortest horizon's how restless the stream is."""
    horizons = fixed[0]["horizons"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        n = event["n"]
        unrest = row["unrest"]
        means = row["unrest_means"]
        gain = row["unrest_gain"]
        known = row["unrest_known"]
        error = event["error_in_widths"]
        for j in range(len(gain)):
            if n - horizons[j] < WARM or np.isnan(error[j]):
                continue
            apart = unrest[(n - horizons[j]) % len(unrest)] - 1.0
            x = apart / (1.0 + gain[j] * apart)
            known[j] += x * x - (known[j] - PRIOR) / MEMORY
            gain[j] = min(max(gain[j] + x * (min(error[j], CLIP) - 1.0) / known[j], 0.0), MOST_GAIN)
        if len(unrest) > 0:
            size = event["shortest_error"]
            labels = n - horizons[0] + 1
            least = LEAST_ERROR * row["scale"][0] if labels > 1 else 0.0
            if not np.isnan(size):
                if labels > WARM:
                    size = min(size, CLIP * max(means[2], least))
                means[0] += max(1.0 / SHORT, 1.0 / labels) * (size - means[0])
                means[1] += max(1.0 / MIDDLE, 1.0 / labels) * (size - means[1])
                means[2] += max(1.0 / USUAL, 1.0 / labels) * (size - means[2])
            usual = max(means[2], least)
            now = 1.0
            if usual > 0.0:
                now = (OF_SHORT * max(means[0], least) + OF_MIDDLE * max(means[1], least)) / usual
            unrest[n % len(unrest)] = min(max(now, CALMEST), WILDEST)


PART = Part(fields, initialise, learn=(learn,))
