"""The slope shrink: how much of an expert's move comes true, so that what cannot be forecast stays at the last value.

    when the label y of origin o arrives, u the expert's move, both clipped at 4:
        a += u y - a/3000,  b += u^2 - b/3000  (both start at 5)
    E~_h = clip(a/b, 0..1) min(labels of h so far / min(h, 255), 1) E_h

Applied to the network and to the stacking. The second factor lets a horizon wait for its first labels: what a network
has learnt of other streams may be far off for this one, and nothing has said so before.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import experts
from pipeline.parts.part import Part
from pipeline.parts.pending import ENOUGH

MEMORY = 3000.0  # labels
START = 5.0
CLIP = 4.0
BOUND = 32.0  # horizon scales: neither moves further, whatever its weights


def fields(method: Method) -> list[Field]:
    """Two sums per expert and horizon, and the moves that wait for their label."""
    g, z = len(experts.shrunk(method)), len(method.horizons)
    return [
        ("shrink_uy", "f4", (z, g)),  # a
        ("shrink_uu", "f4", (z, g)),  # b
        ("shrink_moves", method.root_ring, (method.pending_size, g)),  # u
    ]


def initialise(_method: Method, row: np.void) -> None:
    """Start with a slope of one, until data say otherwise."""
    row["shrink_uy"][:] = START
    row["shrink_uu"][:] = START


def fixed(method: Method) -> Mapping[str, npt.ArrayLike]:
    """Where among an event's moves it finds those to shrink, and where it puts them."""
    names = experts.shrunk(method)
    return {
        "whole": experts.places(method, names),
        "shrunk": experts.places(method, (f"{name}_shrunk" for name in names)),
    }


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Take in which of the moves came true."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    root = fixed[0]["root"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        label = event["label"]
        uy = row["shrink_uy"]
        uu = row["shrink_uu"]
        waiting = row["shrink_moves"]
        for j in range(len(horizons)):
            if np.isnan(label[j]):
                continue
            y = min(max(label[j], -CLIP), CLIP)
            for g in range(uy.shape[1]):
                share = waiting[start[j] + event["n"] % horizons[j], g] / root
                u = share * abs(share) * CLIP
                uy[j, g] += u * y - uy[j, g] / MEMORY
                uu[j, g] += u * u - uu[j, g] / MEMORY


@kernel
def forecast(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Shrink the moves and put them, as they were, into the rings."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    root = fixed[0]["root"]
    whole = fixed[0]["whole"]
    shrunk = fixed[0]["shrunk"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        uy = row["shrink_uy"]
        uu = row["shrink_uu"]
        waiting = row["shrink_moves"]
        moves = event["moves"]
        for j in range(len(horizons)):
            for g in range(len(whole)):
                move = moves[whole[g], j]
                u = min(max(move, -CLIP), CLIP)
                code = np.copysign(np.rint(np.sqrt(abs(u) / CLIP) * root), u)
                waiting[start[j] + event["n"] % horizons[j], g] = code
                slope = min(max(uy[j, g] / (uu[j, g] + 1e-9), 0.0), 1.0)
                heard = min(row["pending_labels"][j] / min(horizons[j], ENOUGH), 1.0)
                moves[shrunk[g], j] = heard * slope * min(max(move, -BOUND), BOUND)


PART = Part(fields, initialise, fixed, learn=(learn,), forecast=(forecast,))
