"""The slope shrink: how much of an expert's move comes true, so that what cannot be forecast stays at the last value.

    when the label y of origin o arrives, u the expert's move, both clipped at 4:
        a += u y - a/3000,  b += u^2 - b/3000  (both start at 5)
    E~_h = clip(a/b, 0..1) E_h

Applied to the network and to the stacking.
"""

import numpy as np

from pipeline.compiled import Field, Floats, Ints, Rows, kernel
from pipeline.method import Method

MEMORY = 3000.0  # labels
START = 5.0
CLIP = 4.0


def experts(method: Method) -> int:
    """N, and K in the full profile."""
    return 2 if method.full else 1


def fields(method: Method) -> list[Field]:
    """Two sums per expert and horizon, and the moves that wait for their label."""
    g, z = experts(method), len(method.horizons)
    return [
        ("shrink_uy", "f4", (z, g)),  # a
        ("shrink_uu", "f4", (z, g)),  # b
        ("shrink_moves", method.ring, (method.pending_size, g)),  # u
    ]


def born(row: np.void) -> None:
    """A slope of one until data say otherwise."""
    row["shrink_uy"][:] = START
    row["shrink_uu"][:] = START


@kernel
def learn(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    label: Floats,  # (B, Z) in horizon scales, NaN where there is none
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    unit: float,
) -> None:
    """Take in which of the moves came true."""
    for b in range(len(index)):
        row = rows[index[b]]
        uy = row["shrink_uy"]
        uu = row["shrink_uu"]
        waiting = row["shrink_moves"]
        for j in range(len(horizons)):
            if np.isnan(label[b, j]):
                continue
            y = min(max(label[b, j], -CLIP), CLIP)
            for g in range(uy.shape[1]):
                u = waiting[start[j] + n[b] % horizons[j], g] / unit
                uy[j, g] += u * y - uy[j, g] / MEMORY
                uu[j, g] += u * u - uu[j, g] / MEMORY


@kernel
def forecast(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    unit: float,
    said: Floats,  # (B, Z, G) the experts' moves
    moves: Floats,  # (B, Z, G) out: shrunk
) -> None:
    """Shrink the moves and put them, as they were said, into the rings."""
    for b in range(len(index)):
        row = rows[index[b]]
        uy = row["shrink_uy"]
        uu = row["shrink_uu"]
        waiting = row["shrink_moves"]
        for j in range(len(horizons)):
            for g in range(said.shape[2]):
                waiting[start[j] + n[b] % horizons[j], g] = np.rint(min(max(said[b, j, g], -CLIP), CLIP) * unit)
                slope = min(max(uy[j, g] / (uu[j, g] + 1e-9), 0.0), 1.0)
                moves[b, j, g] = slope * said[b, j, g]
