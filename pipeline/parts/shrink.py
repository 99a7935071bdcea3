"""The slope shrink: how much of an expert's move comes true, so that what cannot be forecast stays at the last value.

    when the label y of origin o arrives, u the expert's move, both clipped at 4:
        a += u y - a/3000,  b += u^2 - b/3000  (both start at 5)
    E~_h = clip(a/b, 0..1) E_h

Applied to the network and to the stacking.
"""

import numpy as np

from pipeline.arrays import Field, Floats, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method

MEMORY = 3000.0  # labels
START = 5.0
CLIP = 4.0
BOUND = 32.0  # horizon scales: neither moves further, whatever its weights


def experts(method: Method) -> int:
    """N, and K in the full profile."""
    return 2 if method.full else 1


def fields(method: Method) -> list[Field]:
    """Two sums per expert and horizon, and the moves that wait for their label."""
    g, z = experts(method), len(method.horizons)
    return [
        ("shrink_uy", "f4", (z, g)),  # a
        ("shrink_uu", "f4", (z, g)),  # b
        ("shrink_moves", method.root_ring, (method.pending_size, g)),  # u
    ]


def initialise(row: np.void) -> None:
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
    root: float,
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
                share = waiting[start[j] + n[b] % horizons[j], g] / root
                u = share * abs(share) * CLIP
                uy[j, g] += u * y - uy[j, g] / MEMORY
                uu[j, g] += u * u - uu[j, g] / MEMORY


@kernel
def forecast(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    root: float,
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
                u = min(max(said[b, j, g], -CLIP), CLIP)
                waiting[start[j] + n[b] % horizons[j], g] = np.copysign(np.rint(np.sqrt(abs(u) / CLIP) * root), u)
                slope = min(max(uy[j, g] / (uu[j, g] + 1e-9), 0.0), 1.0)
                moves[b, j, g] = slope * min(max(said[b, j, g], -BOUND), BOUND)
