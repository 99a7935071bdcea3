"""The stacking K: least squares of each horizon's moves on what the experts said of it.

X_h = clip([A, sn, pf, sn - prev, pf - pprev, N, (week,) (Ac)], 4) as moves from z in c_h, and a constant 0.3
when the label y of origin o arrives: ordinary recursive least squares of clip(y, 4) on X_h(o),
    lam2 = 0.9998, P_0 = 0.1, w_0 = [1, 0, ...] (= A); if trace(P) > 100 F, P is scaled down to that
K_h = w_h.X_h
"""

import numpy as np

from pipeline.compiled import Field, Floats, Ints, Rows, kernel
from pipeline.method import Method

LINEAR, SEASON, NETWORK, MORE = 0, 1, 5, 6  # columns of the experts' moves; the season has four
FORGET = 0.9998  # lam2
START = 0.1
CLIP = 4.0
TRACE = 100.0
CONSTANT = 0.3
MOVE = 32.0  # bound of the forecast, in horizon scales


def columns(method: Method) -> int:
    """Moves that the experts say; the companion's is the last."""
    return MORE + method.has_week + method.has_companion


def fields(method: Method) -> list[Field]:
    """One regression per horizon, and the inputs that wait for their label."""
    if not method.full:
        return []
    z, f = len(method.horizons), columns(method) + 1
    return [
        ("stack_inverse", "f4", (z, f * (f + 1) // 2)),  # P, lower triangle by rows
        ("stack_weights", "f4", (z, f)),  # w
        ("stack_inputs", method.ring, (method.pending_size, f - 1)),  # X without its constant
    ]


def born(method: Method, row: np.void) -> None:
    """P starts small, the weights as A."""
    if method.full:
        row["stack_inverse"][:, [i * (i + 3) // 2 for i in range(columns(method) + 1)]] = START
        row["stack_weights"][:, LINEAR] = 1.0


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
    """One step of each horizon's regression."""
    size = rows[0]["stack_inputs"].shape[1] + 1
    p = np.empty((size, size))
    x = np.empty(size)
    px = np.empty(size)
    for b in range(len(index)):
        row = rows[index[b]]
        inverse = row["stack_inverse"]
        weights = row["stack_weights"]
        inputs = row["stack_inputs"]
        for j in range(len(horizons)):
            if np.isnan(label[b, j]):
                continue
            place = start[j] + n[b] % horizons[j]
            for i in range(size - 1):
                x[i] = inputs[place, i] / unit
            x[size - 1] = CONSTANT
            at = 0
            for i in range(size):
                for k in range(i + 1):
                    p[i, k] = inverse[j, at]
                    p[k, i] = p[i, k]
                    at += 1
            total = FORGET
            miss = min(max(label[b, j], -CLIP), CLIP)
            for i in range(size):
                px[i] = 0.0
                for k in range(size):
                    px[i] += p[i, k] * x[k]
                total += px[i] * x[i]
                miss -= weights[j, i] * x[i]
            trace = 0.0
            for i in range(size):
                weights[j, i] += px[i] / total * miss
                trace += (p[i, i] - px[i] * px[i] / total) / FORGET
            shrink = min(1.0, TRACE * size / max(trace, 1e-9)) / FORGET
            at = 0
            for i in range(size):
                for k in range(i + 1):
                    inverse[j, at] = (p[i, k] - px[i] / total * px[k]) * shrink
                    at += 1


@kernel
def forecast(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    unit: float,
    said: Floats,  # (B, Z, M) the experts' moves
    moves: Floats,  # (B, Z) out
) -> None:
    """Weigh the experts' moves and put them into the rings."""
    for b in range(len(index)):
        row = rows[index[b]]
        weights = row["stack_weights"]
        inputs = row["stack_inputs"]
        size = said.shape[2]
        for j in range(len(horizons)):
            place = start[j] + n[b] % horizons[j]
            total = weights[j, size] * CONSTANT
            for i in range(size):
                x = min(max(said[b, j, i], -CLIP), CLIP)
                inputs[place, i] = np.rint(x * unit)
                total += weights[j, i] * x
            moves[b, j] = min(max(total, -MOVE), MOVE)
