"""The mixture: experts weighed by how each would have changed its past errors (Bernstein online aggregation).

    when the label of origin o arrives: g = clip(2 (M(o) - z_t)/c, 4), r_e = g clip((E_e(o) - M(o))/c, 4),
        R_e = l R_e - r_e,  V_e = l V_e + r_e^2 (V starts at 1e-6),  l = 1 - 1/(500 + 20 (h-1))
    eta_e = min(1, sqrt(ln experts / V_e)),  w_e ~ prior_e eta_e exp(eta_e R_e), prior 4 for the last value, else 1
    M_h = sum of w_e E_e,  each move E_e - z_t cut at the stream's reach, or at 2 c_h where that is more

No expert is trusted beyond the largest move seen, so a young trend is not carried on for ever. What the network and the
stacking say, cut at 32, counts by min(labels of h so far / min(h, 255), 1): a horizon waits for its first labels, since
what a network has learnt of other streams may be far off for this one, and nothing has said so before.

All that remembers hundreds of labels, in the scales of days gone by: where a trend or a swing has ended, what is small
in them can be a hundred times the last value's error. So a guard compares both lately, whatever the scale, and
withholds the move where it did worse; what is published is the last value and the rest of the move:

    y and the mixture's move m cut at 4, where y is not 0:  L <- EW((y - m)^2, 12 + h),  L0 <- EW(y^2, 12 + h)
    z_t + clip(2 - L / (2 L0), 0..1) (M_h - z_t), not below the floor of a stream that never was, is published, or what
    the guard of drifts leaves of it

A label of exactly 0 says nothing there: where events are rare it is the rule, and a stuck sensor is no end of a trend.

Wintenberger, "Optimal learning with Bernstein online aggregation", 2017. Experts: last value, seasonal naive, seasonal
profile, the network and, in the full profile, the stacking.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Floats, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import experts
from pipeline.parts.part import Part
from pipeline.parts.pending import ENOUGH

LAST = 0  # the expert that never moves, the first; the others are in the order of experts.py
CLIP = 4.0
PRIOR = 4.0  # of the last value
BOUND = 32.0  # horizon scales: who waits moves no further, whatever the weights
LEAST_REACH = 2.0  # horizon scales that a move may always have
FIRST_VARIATION = 1e-6
LATELY = 12.0  # labels of the guard's memory, and the horizon
WORSE = 2.0  # times the last value's loss from which on it withholds, at twice that the whole move
LEAST = 1e-30


def fields(method: Method) -> list[Field]:
    """Two sums per horizon and expert, how far from the mixture each expert but the last value moved, the guard's."""
    z, e = len(method.horizons), 1 + len(experts.mixed(method))
    return [
        ("mixture_regret", "f4", (z, e)),  # R
        ("mixture_variation", "f4", (z, e)),  # V
        ("mixture_apart", method.root_ring, (method.pending_size, e - 1)),
        ("mixture_loss", "f4", (z, 2)),  # L, L0
        ("mixture_withheld", method.root_ring, (method.pending_size,)),  # of the move
    ]


def initialise(_method: Method, row: np.void) -> None:
    """Begin with no regrets."""
    row["mixture_variation"][:] = FIRST_VARIATION


def fixed(method: Method) -> Mapping[str, npt.ArrayLike]:
    """Where among an event's moves it finds those of its experts, and whether these wait for labels: 1, else 0."""
    mixed = experts.mixed(method)
    names = [expert.name for expert in mixed]
    return {"mixed": experts.places(method, names), "waits": [int(expert.waits) for expert in mixed]}


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Take in what each expert's move would have changed."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    root = fixed[0]["root"]
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        label = events[b]["label"]
        regret = row["mixture_regret"]
        variation = row["mixture_variation"]
        waiting = row["mixture_apart"]
        loss = row["mixture_loss"]
        withheld = row["mixture_withheld"]
        published = row["pending_move"]
        width = row["pending_width"]
        for j in range(len(horizons)):
            place = start[j] + n % horizons[j]
            if np.isnan(label[j]) or width[place] < 0.0:
                continue
            keep = 1.0 - 1.0 / (500.0 + 20.0 * (horizons[j] - 1))
            share = withheld[place] / root
            combined = published[place] + share * abs(share) * CLIP
            y = min(max(label[j], -CLIP), CLIP)
            if y != 0.0:
                miss = y - min(max(combined, -CLIP), CLIP)
                rate = 1.0 / (LATELY + horizons[j])
                loss[j, 0] += rate * (miss * miss - loss[j, 0])
                loss[j, 1] += rate * (y * y - loss[j, 1])
            g = min(max(2.0 * (combined - label[j]), -CLIP), CLIP)
            for e in range(regret.shape[1]):
                apart = min(max(-combined, -CLIP), CLIP)  # the last value's
                if e != LAST:
                    share = waiting[place, e - 1] / root
                    apart = share * abs(share) * CLIP
                r = g * apart
                regret[j, e] = keep * regret[j, e] - r
                variation[j, e] = keep * variation[j, e] + r * r


@kernel
def forecast(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Weigh the experts' moves and put them into the rings."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    root = fixed[0]["root"]
    mixed = fixed[0]["mixed"]
    waits = fixed[0]["waits"]
    least = fixed[0]["least"]
    many = len(mixed) + 1
    weight = np.empty(many)
    regretted = np.empty(many)
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        z = events[b]["z"]
        moves = events[b]["moves"]
        counted = events[b]["counted"]
        published = events[b]["mixed_move"]
        whole = events[b]["whole_move"]
        regret = row["mixture_regret"]
        variation = row["mixture_variation"]
        waiting = row["mixture_apart"]
        loss = row["mixture_loss"]
        withheld = row["mixture_withheld"]
        reach = row["reach"]
        scale = row["scale"]
        for j in range(len(horizons)):
            bound = max(reach[j] / scale[j], LEAST_REACH) if scale[j] > 0.0 else LEAST_REACH
            heard = min(row["pending_labels"][j] / min(horizons[j], ENOUGH), 1.0)
            move = counted[j]
            move[LAST] = 0.0
            largest = -np.inf
            for e in range(many):
                eta = min(1.0, np.sqrt(np.log(many) / variation[j, e]))
                if e != LAST:
                    said = moves[mixed[e - 1], j]
                    if waits[e - 1]:
                        said = heard * min(max(said, -BOUND), BOUND)
                    move[e] = min(max(said, -bound), bound)
                weight[e] = eta * (PRIOR if e == LAST else 1.0)
                regretted[e] = eta * regret[j, e]
                largest = max(largest, regretted[e])
            total = 0.0
            sum_ = 0.0
            for e in range(many):
                w = weight[e] * np.exp(regretted[e] - largest)
                total += w
                sum_ += w * move[e]
            combined = sum_ / total
            whole[j] = combined
            guard = min(max(2.0 - loss[j, 0] / (WORSE * loss[j, 1] + LEAST), 0.0), 1.0)
            published[j] = guard * combined
            if row["below_floor"] == 0 and scale[j] > 0.0:
                published[j] = max(published[j], (least - z) / scale[j])
            place = start[j] + n % horizons[j]
            for e in range(LAST + 1, many):
                apart = min(max(move[e] - combined, -CLIP), CLIP)
                waiting[place, e - 1] = np.copysign(np.rint(np.sqrt(abs(apart) / CLIP) * root), apart)
            rest = min(max(combined - published[j], -CLIP), CLIP)
            withheld[place] = np.copysign(np.rint(np.sqrt(abs(rest) / CLIP) * root), rest)


def names(method: Method) -> list[str]:
    """The experts as people read them, the last value first."""
    return ["last_value", *(expert.name for expert in experts.mixed(method))]


def weights(row: np.void) -> Floats:
    """(Z, E) what each expert counts for in a row's next forecast, the last value first; each horizon's sum is 1."""
    regret, variation = row["mixture_regret"].astype(np.float64), row["mixture_variation"].astype(np.float64)
    eta = np.minimum(1.0, np.sqrt(np.log(regret.shape[1]) / variation))
    prior = np.where(np.arange(regret.shape[1]) == LAST, PRIOR, 1.0)
    regretted = eta * regret
    raw = eta * prior * np.exp(regretted - regretted.max(axis=1, keepdims=True))
    shares: Floats = raw / raw.sum(axis=1, keepdims=True)
    return shares


def guards(row: np.void) -> Floats:
    """(Z,) the share of the mixture's move that a row's next forecast makes."""
    loss = row["mixture_loss"].astype(np.float64)
    shares: Floats = np.clip(2.0 - loss[:, 0] / (WORSE * loss[:, 1] + LEAST), 0.0, 1.0)
    return shares


PART = Part(
    fields,
    initialise,
    fixed,
    learn=(learn,),
    forecast=(forecast,),
)
