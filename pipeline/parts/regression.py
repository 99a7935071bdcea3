"""Recursive least squares of a stream's moves on what it saw at their origin: one inverse P for all horizons.

    when phi_t is seen (no label needed): k_t = P phi / (lam + phi'P phi),  P = (P - k_t (P phi)') / lam
    every 50 events: if trace(P) > 100 F, P is scaled down to that
    when the label y of origin o = t-h arrives: W_h += k_o (clip(y, 4) - W_h.phi_o)
    A_h = W_h.phi_t

phi and k wait in rings of H places. P is kept and updated as its factors U D U' (U upper triangular with ones on its
diagonal, D diagonal; Bierman, "Factorization Methods for Discrete Sequential Estimation", 1977): so rounding to float32
cannot make it indefinite, however unlike its directions are; as P itself it would become that on a square wave. Two
experts share the kernels: each gets its own, made for the names that its fields begin with.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Verb

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
    """Let P start as the unit matrix."""
    row[f"{name}_factors"][[i * (i + 3) // 2 for i in range(regressors)]] = 1.0


def fixed(method: Method) -> Mapping[str, npt.ArrayLike]:
    """In what units regressors and gains wait; the same for both experts."""
    return {"seen_unit": method.ring_unit(BOUND), "gain_steps": method.gain_steps}


def learn_of(name: str) -> Verb:
    """Make the kernel that learns one expert's weights from labels."""
    own_weights, own_unit, own_seen, own_gain = (f"{name}_{f}" for f in ("weights", "gain_unit", "seen", "gain"))

    @kernel
    def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
        """Move each horizon's weights by the gain of its origin."""
        horizons = fixed[0]["horizons"]
        seen_unit = fixed[0]["seen_unit"]
        for b in range(len(events)):
            event = events[b]
            row = rows[event["row"]]
            label = event["label"]
            weights = row[own_weights]
            gain_unit = row[own_unit]
            seen = row[own_seen]
            gain = row[own_gain]
            for j in range(len(horizons)):
                if np.isnan(label[j]):
                    continue
                o = (event["n"] - horizons[j]) % seen.shape[0]
                forecast = 0.0
                for f in range(seen.shape[1]):
                    forecast += weights[j, f] * seen[o, f]
                miss = min(max(label[j], -LABEL), LABEL) - forecast / seen_unit
                step = miss * gain_unit[o]
                for f in range(seen.shape[1]):
                    weights[j, f] += gain[o, f] * step

    return learn


def take_in_of(name: str) -> Verb:
    """Make the kernel that takes what one expert sees into its inverse."""
    own_factors, own_unit, own_seen, own_gain = (f"{name}_{f}" for f in ("factors", "gain_unit", "seen", "gain"))

    @kernel
    def take_in(rows: Rows, events: Events, fixed: Fixed) -> None:
        """Take phi into P and put it with its gain into the rings."""
        size = rows[0][own_seen].shape[1]
        u, d, k = np.empty((size, size)), np.empty(size), np.empty(size)
        for b in range(len(events)):
            row = rows[events[b]["row"]]
            n = events[b]["n"]
            phi = events[b]["phi"]
            factors = row[own_factors]
            seen = row[own_seen]
            gain = row[own_gain]
            o = n % len(seen)
            at = 0
            for j in range(size):
                seen[o, j] = np.rint(phi[j] * fixed[0]["seen_unit"])
                for i in range(j):
                    u[i, j] = factors[at]
                    at += 1
                d[j] = factors[at]
                at += 1
            total = FORGET
            for j in range(size):
                f = float(phi[j])
                for i in range(j):
                    f += u[i, j] * phi[i]
                k[j] = d[j] * f
                before = total
                total += f * k[j]
                d[j] *= before / total
                for i in range(j):
                    old = u[i, j]
                    u[i, j] -= k[i] * f / before
                    k[i] += old * k[j]
            trace = 0.0
            largest = 0.0
            for j in range(size):
                share = 1.0
                for i in range(j):
                    share += u[i, j] * u[i, j]
                trace += share * d[j] / FORGET
                largest = max(largest, abs(k[j]))
            unit = max(largest / total / fixed[0]["gain_steps"], 1e-30)
            row[own_unit][o] = unit
            shrink = (min(1.0, TRACE * size / trace) if n % GUARD_EVERY == 0 else 1.0) / FORGET
            at = 0
            for j in range(size):
                gain[o, j] = np.rint(k[j] / total / unit)
                for i in range(j):
                    factors[at] = u[i, j]
                    at += 1
                factors[at] = max(d[j] * shrink, LEAST)
                at += 1

    return take_in


def forecast_of(name: str) -> Verb:
    """Make the kernel that forecasts one expert's moves."""
    own_weights, own_move = f"{name}_weights", f"{name}_move"

    @kernel
    def forecast(rows: Rows, events: Events, _fixed: Fixed) -> None:
        """Fill the expert's moves from phi."""
        for b in range(len(events)):
            weights = rows[events[b]["row"]][own_weights]
            phi = events[b]["phi"]
            moves = events[b][own_move]
            for j in range(len(moves)):
                move = 0.0
                for f in range(weights.shape[1]):
                    move += weights[j, f] * phi[f]
                if not np.isfinite(move):  # it would never come back by itself
                    weights[j, :] = 0.0
                    move = 0.0
                moves[j] = min(max(move, -MOVE), MOVE)

    return forecast
