"""What the network sees of an event: change and level in the stream's own scales, time of day and of week."""

import numpy as np

from pipeline.compiled import Floats, Floats32, Ints, Rows, kernel
from pipeline.method import Method

CLIP = 6.0
DAY_MS = 86_400_000.0
WEEK_MS = 7 * DAY_MS


def width(method: Method) -> int:
    """F, inputs of the network."""
    return 8 + 2 * len(method.covariates)


@kernel
def build(rows: Rows, index: Ints, z: Floats, time_ms: Ints, x: Floats32) -> None:
    """Fill the first eight inputs of x (B, F) from z (B,) and its time; a scale of zero gives an input of zero."""
    for b in range(len(index)):
        row = rows[index[b]]
        x[b, 0] = 0.0
        x[b, 1] = 0.0
        if row["step_scale"] > 0.0:
            x[b, 0] = min(max(row["change"] / row["step_scale"], -CLIP), CLIP)
        if row["variance"] > 0.0:
            x[b, 1] = min(max((z[b] - row["mean"]) / np.sqrt(row["variance"]), -CLIP), CLIP)
        day = 2.0 * np.pi * (time_ms[b] % DAY_MS) / DAY_MS
        week = 2.0 * np.pi * (time_ms[b] % WEEK_MS) / WEEK_MS
        x[b, 2] = np.sin(day)
        x[b, 3] = np.cos(day)
        x[b, 4] = np.sin(2.0 * day)
        x[b, 5] = np.cos(2.0 * day)
        x[b, 6] = np.sin(week)
        x[b, 7] = np.cos(week)


@kernel
def build_covariates(rows: Rows, index: Ints, x: Floats32) -> None:
    """Fill the inputs after the eighth: change and level of each covariate in its own step scale."""
    for b in range(len(index)):
        row = rows[index[b]]
        last = row["covariate"]
        change = row["covariate_change"]
        mean = row["covariate_mean"]
        step2 = row["covariate_step2"]
        for c in range(len(last)):
            x[b, 8 + 2 * c] = 0.0
            x[b, 9 + 2 * c] = 0.0
            if step2[c] > 0.0:
                scale = np.sqrt(step2[c])
                x[b, 8 + 2 * c] = min(max(change[c] / scale, -CLIP), CLIP)
                x[b, 9 + 2 * c] = min(max((last[c] - mean[c]) / scale, -20.0), 20.0) / 3.0
