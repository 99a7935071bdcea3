"""The linear expert A: least squares of a stream's moves on its own last changes, level and season.

    phi = [1, clip(d_t, d_{t-1}, d_{t-2}; 6s)/s, clip(sn_1 - prev; 6s)/s, clip(prev_t - prev_{t-1}; 6s)/s,
           clip(z-m2, z-mS, z-prev; 20s)/s, clip(pf_k - z; 20s)/s for the fractions k of H, six of the time]

How weights follow from it is regression.py.
"""

import numpy as np

from pipeline.arrays import Field, Floats, Floats32, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import features, regression

NAME = "linear"
OWN = 9  # regressors before those of the fractions
STEP = 6.0  # bound of changes, in step scales
LEVEL = 20.0  # bound of distances


def width(method: Method) -> int:
    """F, regressors."""
    return OWN + len(method.fractions) + features.TIMES


def fields(method: Method) -> list[Field]:
    """Those of its regression, in the full profile."""
    return regression.fields(method, NAME, width(method)) if method.full else []


def initialise(method: Method, row: np.void) -> None:
    """Set what does not start at zero."""
    if method.full:
        regression.initialise(row, NAME, width(method))


@kernel
def regressors(
    rows: Rows,
    index: Ints,  # (B,)
    z: Floats,  # (B,)
    naive: Floats,  # (B, K) sn by span
    profile: Floats,  # (B, K) pf by span
    fractions: Ints,  # (5,) their places among the spans; the first is 1
    x: Floats32,  # (B, F of the network) what it sees, the time among it
    phi: Floats32,  # (B, F or more) out
) -> None:
    """Fill phi; a step scale of zero leaves all but the constant and the time at zero."""
    times = len(fractions) + OWN
    seen = len(fractions) + features.OWN  # where the network has the time
    for b in range(len(index)):
        row = rows[index[b]]
        changes = row["changes"]
        prev = row["slot_before"][0]
        s = row["step_scale"]
        for f in range(times):
            phi[b, f] = 0.0
        phi[b, 0] = 1.0
        for f in range(features.TIMES):
            phi[b, times + f] = x[b, seen + f]
        if s > 0.0:
            for f in range(3):
                phi[b, 1 + f] = min(max(changes[f] / s, -STEP), STEP)
            phi[b, 4] = min(max((naive[b, fractions[0]] - prev) / s, -STEP), STEP)
            phi[b, 5] = min(max(row["slot_shift"] / s, -STEP), STEP)
            phi[b, 6] = min(max((z[b] - row["recent_mean"]) / s, -LEVEL), LEVEL)
            phi[b, 7] = min(max((z[b] - row["season_mean"]) / s, -LEVEL), LEVEL)
            phi[b, 8] = min(max((z[b] - prev) / s, -LEVEL), LEVEL)
            for f in range(len(fractions)):
                phi[b, OWN + f] = min(max((profile[b, fractions[f]] - z[b]) / s, -LEVEL), LEVEL)
