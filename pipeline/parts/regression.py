"""Recursive least squares of a stream's moves on what it saw at their origin: one inverse P for all horizons.

    when phi_t is seen (no label needed): k_t = P phi / (lam + phi'P phi),  P = (P - k_t (P phi)') / lam
    every 50 events: if trace(P) > 100 F, P is scaled down to that
    when the label y of origin o = t-h arrives: W_h += k_o (clip(y, 4) - W_h.phi_o)
    A_h = W_h.phi_t

phi and k wait in rings of H places. P is kept and updated as its factors U D U' (U upper triangular with ones on its
diagonal, D diagonal; Bierman, "Factorization Methods for Discrete Sequential Estimation", 1977): so rounding to float32
cannot make it indefinite, however unlike its directions are; as P itself it would become that on a square wave. Kernels
take the rows' fields as arrays (R rows), since two experts share them.
"""

from typing import NamedTuple

import numpy as np

from pipeline.arrays import Field, Floats, Floats32, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method

FORGET = 0.999  # lam
LABEL = 4.0  # labels are cut here
TRACE = 100.0  # per regressor
GUARD_EVERY = 50  # events
BOUND = 20.0  # of every regressor
LEAST = 1e-12  # of D
MOVE = 32.0  # of the forecast, in horizon scales


def fields(method: Method, name: str, regressors: int) -> list[Field]:
    """Of one expert with so many regressors, its fields begin with `name`."""
    h, z, f = method.longest, len(method.horizons), regressors
    return [
        (f"{name}_factors", "f4", (f * (f + 1) // 2,)),  # U by columns, each followed by its D
        (f"{name}_weights", "f4", (z, f)),  # W
        (f"{name}_gain_unit", "f4", (h,)),  # of each ring place
        (f"{name}_seen", method.ring, (h, f)),  # phi of event n at n mod H
        (f"{name}_gain", method.ring, (h, f)),  # its k
    ]


def initialise(row: np.void, name: str, regressors: int) -> None:
    """P starts as one."""
    row[f"{name}_factors"][[i * (i + 3) // 2 for i in range(regressors)]] = 1.0


class Expert(NamedTuple):
    """One expert's fields, as the kernels take them."""

    factors: Rows
    weights: Rows
    gain_unit: Rows
    seen: Rows
    gain: Rows

    @classmethod
    def of(cls, rows: Rows, name: str) -> "Expert":
        """Views, no copies."""
        return cls(*(rows[f"{name}_{field}"] for field in cls._fields))


@kernel
def learn(
    index: Ints,  # (B,)
    n: Ints,  # (B,) event index in the stream
    label: Floats,  # (B, Z) in horizon scales, NaN where there is none
    horizons: Ints,  # (Z,)
    weights: Rows,  # (R, Z, F)
    gain_unit: Rows,  # (R, H)
    seen: Rows,  # (R, H, F)
    gain: Rows,  # (R, H, F)
    seen_unit: float,
) -> None:
    """Move each horizon's weights by the gain of its origin."""
    for b in range(len(index)):
        r = index[b]
        for j in range(len(horizons)):
            if np.isnan(label[b, j]):
                continue
            o = (n[b] - horizons[j]) % seen.shape[1]
            said = 0.0
            for f in range(seen.shape[2]):
                said += weights[r, j, f] * seen[r, o, f]
            miss = min(max(label[b, j], -LABEL), LABEL) - said / seen_unit
            step = miss * gain_unit[r, o]
            for f in range(seen.shape[2]):
                weights[r, j, f] += gain[r, o, f] * step


@kernel
def take_in(
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    phi: Floats32,  # (B, F)
    factors: Rows,  # (R, F (F + 1) / 2)
    gain_unit: Rows,  # (R, H)
    seen: Rows,  # (R, H, F)
    gain: Rows,  # (R, H, F)
    seen_unit: float,
    gain_steps: float,
) -> None:
    """Take phi into P and put it with its gain into the rings."""
    size = phi.shape[1]
    u = np.empty((size, size))
    d = np.empty(size)
    k = np.empty(size)
    for b in range(len(index)):
        r = index[b]
        o = n[b] % seen.shape[1]
        at = 0
        for j in range(size):
            seen[r, o, j] = np.rint(phi[b, j] * seen_unit)
            for i in range(j):
                u[i, j] = factors[r, at]
                at += 1
            d[j] = factors[r, at]
            at += 1
        total = FORGET
        for j in range(size):
            f = float(phi[b, j])
            for i in range(j):
                f += u[i, j] * phi[b, i]
            k[j] = d[j] * f
            before = total
            total += f * k[j]
            d[j] *= before / total
            for i in range(j):
                said = u[i, j]
                u[i, j] -= k[i] * f / before
                k[i] += said * k[j]
        trace = 0.0
        largest = 0.0
        for j in range(size):
            share = 1.0
            for i in range(j):
                share += u[i, j] * u[i, j]
            trace += share * d[j] / FORGET
            largest = max(largest, abs(k[j]))
        unit = max(largest / total / gain_steps, 1e-30)
        gain_unit[r, o] = unit
        shrink = (min(1.0, TRACE * size / trace) if n[b] % GUARD_EVERY == 0 else 1.0) / FORGET
        at = 0
        for j in range(size):
            gain[r, o, j] = np.rint(k[j] / total / unit)
            for i in range(j):
                factors[r, at] = u[i, j]
                at += 1
            factors[r, at] = max(d[j] * shrink, LEAST)
            at += 1


@kernel
def forecast(index: Ints, phi: Floats32, weights: Rows, moves: Floats) -> None:
    """Fill moves (B, Z) from phi (B, F)."""
    for b in range(len(index)):
        for j in range(moves.shape[1]):
            said = 0.0
            for f in range(phi.shape[1]):
                said += weights[index[b], j, f] * phi[b, f]
            if not np.isfinite(said):  # it would never come back by itself
                weights[index[b], j, :] = 0.0
                said = 0.0
            moves[b, j] = min(max(said, -MOVE), MOVE)
