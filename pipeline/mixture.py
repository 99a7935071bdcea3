"""The mixture: experts weighed by how each would have changed its past errors (Bernstein online aggregation).

    when the label of origin o arrives: g = clip(2 (M(o) - z_t)/c, 4), r_e = g clip((E_e(o) - M(o))/c, 4),
        R_e = l R_e - r_e,  V_e = l V_e + r_e^2 (V starts at 1e-6),  l = 1 - 1/(500 + 20 (h-1))
    eta_e = min(1, sqrt(ln experts / V_e)),  w_e ~ prior_e eta_e exp(eta_e R_e), prior 4 for the last value, else 1
    M_h = sum of w_e E_e,  each move E_e - z_t cut at the stream's reach, or at 2 c_h where that is more

No expert is trusted beyond the largest move seen, so a young trend is not carried on for ever.

Wintenberger, "Optimal learning with Bernstein online aggregation", 2017. Experts: last value, seasonal naive, seasonal
profile, N~ and, in the full profile, K~.
"""

import numpy as np

from pipeline.compiled import Field, Floats, Ints, Rows, kernel
from pipeline.method import Method

LAST, NAIVE, PROFILE, SHRUNK = 0, 1, 2, 3  # columns of the experts' moves; N~ and K~ are the last
CLIP = 4.0
PRIOR = 4.0  # of the last value
LEAST_REACH = 2.0  # horizon scales that a move may always have
FIRST_VARIATION = 1e-6


def experts(method: Method) -> int:
    """E, those weighed."""
    return 5 if method.full else 4


def fields(method: Method) -> list[Field]:
    """Two sums per horizon and expert, and how far from the mixture each expert but the last value moved."""
    z, e = len(method.horizons), experts(method)
    return [
        ("mixture_regret", "f4", (z, e)),  # R
        ("mixture_variation", "f4", (z, e)),  # V
        ("mixture_apart", method.root_ring, (method.pending_size, e - 1)),
    ]


def born(row: np.void) -> None:
    """Nothing is known of any expert."""
    row["mixture_variation"][:] = FIRST_VARIATION


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
    """Take in what each expert's move would have changed."""
    for b in range(len(index)):
        row = rows[index[b]]
        regret = row["mixture_regret"]
        variation = row["mixture_variation"]
        waiting = row["mixture_apart"]
        combined = row["pending_move"]
        for j in range(len(horizons)):
            if np.isnan(label[b, j]):
                continue
            keep = 1.0 - 1.0 / (500.0 + 20.0 * (horizons[j] - 1))
            place = start[j] + n[b] % horizons[j]
            g = min(max(2.0 * (combined[place] - label[b, j]), -CLIP), CLIP)
            for e in range(regret.shape[1]):
                apart = min(max(-combined[place], -CLIP), CLIP)  # the last value's
                if e != LAST:
                    share = waiting[place, e - 1] / root
                    apart = share * abs(share) * CLIP
                r = g * apart
                regret[j, e] = keep * regret[j, e] - r
                variation[j, e] = keep * variation[j, e] + r * r


@kernel
def forecast(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    root: float,
    said: Floats,  # (B, Z, E) the experts' moves
    moves: Floats,  # (B, Z) out
) -> None:
    """Weigh the experts' moves and put them into the rings."""
    many = said.shape[2]
    weight = np.empty(many)
    move = np.empty(many)
    for b in range(len(index)):
        row = rows[index[b]]
        regret = row["mixture_regret"]
        variation = row["mixture_variation"]
        waiting = row["mixture_apart"]
        reach = row["reach"]
        scale = row["scale"]
        for j in range(len(horizons)):
            bound = max(reach[j] / scale[j], LEAST_REACH) if scale[j] > 0.0 else LEAST_REACH
            largest = -np.inf
            for e in range(many):
                eta = min(1.0, np.sqrt(np.log(many) / variation[j, e]))
                move[e] = min(max(said[b, j, e], -bound), bound)
                weight[e] = np.log(eta * (PRIOR if e == LAST else 1.0)) + eta * regret[j, e]
                largest = max(largest, weight[e])
            total = 0.0
            sum_ = 0.0
            for e in range(many):
                w = np.exp(weight[e] - largest)
                total += w
                sum_ += w * move[e]
            moves[b, j] = sum_ / total
            place = start[j] + n[b] % horizons[j]
            for e in range(LAST + 1, many):
                apart = min(max(move[e] - moves[b, j], -CLIP), CLIP)
                waiting[place, e - 1] = np.copysign(np.rint(np.sqrt(abs(apart) / CLIP) * root), apart)
