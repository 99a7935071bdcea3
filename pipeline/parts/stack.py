"""The stacking K: least squares of each horizon's moves on what the experts said of it.

X_h = clip([A, sn, pf, sn - prev, pf - pprev, N, (week,) (Ac)], 4) as moves from z in c_h, and a constant 0.3
when the label y of origin o arrives: ordinary recursive least squares of clip(y, 4) on X_h(o),
    lam2 = 0.9998, P_0 = 0.1, w_0 = [1, 0, ...] (= A); if trace(P) > 100 F, P is scaled down to that
K_h = w_h.X_h

P is kept as factors, as regression.py explains.
"""

import numpy as np

from pipeline.arrays import Field, Floats, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method

LINEAR, SEASON, NETWORK, MORE = 0, 1, 5, 6  # columns of the experts' moves; the season has four
FORGET = 0.9998  # lam2
START = 0.1
CLIP = 4.0
TRACE = 100.0
CONSTANT = 0.3
LEAST = 1e-12  # of D


def columns(method: Method) -> int:
    """Moves that the experts say; the companion's is the last."""
    return MORE + method.has_week + method.has_companion


def fields(method: Method) -> list[Field]:
    """One regression per horizon, and the inputs that wait for their label."""
    if not method.full:
        return []
    z, f = len(method.horizons), columns(method) + 1
    return [
        ("stack_factors", "f4", (z, f * (f + 1) // 2)),  # of P, as a regression's
        ("stack_weights", "f4", (z, f)),  # w
        ("stack_inputs", method.ring, (method.pending_size, f - 1)),  # X without its constant
    ]


def initialise(method: Method, row: np.void) -> None:
    """P starts small, the weights as A."""
    if method.full:
        row["stack_factors"][:, [i * (i + 3) // 2 for i in range(columns(method) + 1)]] = START
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
    u = np.empty((size, size))
    d = np.empty(size)
    k = np.empty(size)
    x = np.empty(size)
    for b in range(len(index)):
        row = rows[index[b]]
        factors = row["stack_factors"]
        weights = row["stack_weights"]
        inputs = row["stack_inputs"]
        for j in range(len(horizons)):
            if np.isnan(label[b, j]):
                continue
            place = start[j] + n[b] % horizons[j]
            for c in range(size - 1):
                x[c] = inputs[place, c] / unit
            x[size - 1] = CONSTANT
            miss = min(max(label[b, j], -CLIP), CLIP)
            total = FORGET
            trace = 0.0
            at = 0
            for c in range(size):
                f = x[c]
                for i in range(c):
                    u[i, c] = factors[j, at]
                    f += u[i, c] * x[i]
                    at += 1
                d[c] = factors[j, at]
                at += 1
                k[c] = d[c] * f
                before = total
                total += f * k[c]
                d[c] *= before / total
                share = 1.0
                for i in range(c):
                    said = u[i, c]
                    u[i, c] -= k[i] * f / before
                    k[i] += said * k[c]
                    share += u[i, c] * u[i, c]
                trace += share * d[c] / FORGET
                miss -= weights[j, c] * x[c]
            shrink = min(1.0, TRACE * size / trace) / FORGET
            at = 0
            for c in range(size):
                weights[j, c] += k[c] / total * miss
                for i in range(c):
                    factors[j, at] = u[i, c]
                    at += 1
                factors[j, at] = max(d[c] * shrink, LEAST)
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
            if not np.isfinite(total):  # it would never come back by itself
                weights[j, :] = 0.0
                weights[j, LINEAR] = 1.0
                total = said[b, j, LINEAR]
            moves[b, j] = total


@kernel
def tell(
    rows: Rows,
    index: Ints,  # (B,)
    z: Floats,  # (B,)
    said: Floats,  # (B, Z, columns)
    last: Floats,  # (B, Z) K's moves
    parts: Floats,  # (B, Z, 2 or 4) out
) -> None:
    """Single experts' forecasts in the units of z: seasonal naive, network, and in the full profile A and K."""
    for b in range(len(index)):
        scale = rows[index[b]]["scale"]
        for j in range(said.shape[1]):
            parts[b, j, 0] = z[b] + said[b, j, SEASON] * scale[j]
            parts[b, j, 1] = z[b] + said[b, j, NETWORK] * scale[j]
            if parts.shape[2] > 2:
                parts[b, j, 2] = z[b] + said[b, j, LINEAR] * scale[j]
                parts[b, j, 3] = z[b] + last[b, j] * scale[j]
