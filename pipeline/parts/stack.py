"""The stacking K: least squares of each horizon's moves on the experts' moves.

X_h = clip([A, sn, pf, sn - prev, pf - pprev, N, (week,) (Ac)], 4) as moves from z in c_h, and a constant 0.3
when the label y of origin o arrives: ordinary recursive least squares of clip(y, 4) on X_h(o),
    lam2 = 0.9998, P_0 = 0.1, w_0 = [1, 0, ...] (= A); if trace(P) > 100 F, P is scaled down to that
K_h = w_h.X_h

P is kept as factors, as regression.py explains.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import experts
from pipeline.parts.part import Part

FORGET = 0.9998  # lam2
START = 0.1
CLIP = 4.0
TRACE = 100.0
CONSTANT = 0.3
LEAST = 1e-12  # of D
FIRST = "linear"  # the expert that it starts as


def fields(method: Method) -> list[Field]:
    """One regression per horizon, and the inputs that wait for their label."""
    z, f = len(method.horizons), len(experts.stacked(method)) + 1
    return [
        ("stack_factors", "f4", (z, f * (f + 1) // 2)),  # of P, as a regression's
        ("stack_weights", "f4", (z, f)),  # w
        ("stack_inputs", method.ring, (method.pending_size, f - 1)),  # X without its constant
    ]


def initialise(method: Method, row: np.void) -> None:
    """P starts small, the weights as A."""
    names = experts.stacked(method)
    row["stack_factors"][:, [i * (i + 3) // 2 for i in range(len(names) + 1)]] = START
    row["stack_weights"][:, names.index(FIRST)] = 1.0


def fixed(method: Method) -> Mapping[str, npt.ArrayLike]:
    """Where its inputs are among an event's moves, and in what unit they wait."""
    names = experts.stacked(method)
    return {
        "stacked": experts.places(method, names),
        "stacked_first": names.index(FIRST),
        "stack_unit": method.ring_unit(CLIP),
    }


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Take one step of each horizon's regression."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    unit = fixed[0]["stack_unit"]
    size = rows[0]["stack_inputs"].shape[1] + 1
    u = np.empty((size, size))
    d = np.empty(size)
    k = np.empty(size)
    x = np.empty(size)
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        label = events[b]["label"]
        factors = row["stack_factors"]
        weights = row["stack_weights"]
        inputs = row["stack_inputs"]
        for j in range(len(horizons)):
            if np.isnan(label[j]):
                continue
            place = start[j] + n % horizons[j]
            for c in range(size - 1):
                x[c] = inputs[place, c] / unit
            x[size - 1] = CONSTANT
            miss = min(max(label[j], -CLIP), CLIP)
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
                    old = u[i, c]
                    u[i, c] -= k[i] * f / before
                    k[i] += old * k[c]
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
def forecast(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Weigh the experts' moves and put them into the rings."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    unit = fixed[0]["stack_unit"]
    first = fixed[0]["stacked_first"]
    stacked = fixed[0]["stacked"]
    size = len(stacked)
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        weights = row["stack_weights"]
        inputs = row["stack_inputs"]
        moves = event["moves"]
        own = event["stack_move"]
        for j in range(len(horizons)):
            place = start[j] + event["n"] % horizons[j]
            total = weights[j, size] * CONSTANT
            for i in range(size):
                x = min(max(moves[stacked[i], j], -CLIP), CLIP)
                inputs[place, i] = np.rint(x * unit)
                total += weights[j, i] * x
            if not np.isfinite(total):  # it would never come back by itself
                weights[j, :] = 0.0
                weights[j, first] = 1.0
                total = moves[stacked[first], j]
            own[j] = total


PART = Part(fields, initialise, fixed, lambda method: method.full, learn=(learn,), forecast=(forecast,))
