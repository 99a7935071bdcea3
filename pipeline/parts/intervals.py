"""Intervals by tracking the quantiles of the mixture's own past errors, per stream and horizon.

    e = z_t - M_h(o);  u[slot(t)] <- EW-rate max(.05, 1/(visits + 10)) of min(|e|/sigma, 6)
    sigma <- EW(min(|e| / clip(u[slot(t)], .5..1.2), 8 sigma), 200), not below c_h/50
    for each level tau: q_tau += max(g_tau, min(.1, 2/count)) (tau - [e/width(o) <= q_tau])
    width = sigma max(u[slot(t+h)], .05) as it was at the origin;  band = M_h + sort(q) width

Each quantile of the scaled error moves up by its level after a miss above and down after one below, so in the long
run it is exceeded exactly as often as it should be (quantile tracking, as in Angelopoulos, Candes and Tibshirani,
"Conformal PID control for time series prediction", 2023). The share of an error that u explains to sigma is bounded, or
u would hold sigma down while a stream's errors grow a thousandfold.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part

MEMORY = 200.0  # labels
CLIP = 8.0  # errors above so many times their mean are cut in the scale
SLOT_CLIP = 6.0
SLOT_RATE = 0.05
LEAST_ERROR = 0.02  # least sigma, in horizon scales: after months of one constant it must find back
LEAST_SLOT = 0.05  # of the slot factor
SHARE = (0.5, 1.2)  # of an error that the slot factor may explain to the scale
WARM = 20
START = 1.2  # tracked quantiles start at so many times the normal's
MEAN_TO_DEVIATION = 0.8  # mean absolute value of a standard normal, before there are errors to measure
WIDEST = 1e30  # horizon scales, so that it fits float32
EDGE = 32.0  # widths: no edge is further; they are published as exactly as they wait


def factor_kept(method: Method) -> tuple[str, float]:
    """Type of a kept slot factor, and what one is kept as."""
    return ("f4", 2.0**24) if method.full or method.fine_rings else ("i2", 32_000 / SLOT_CLIP)


def fields(method: Method) -> list[Field]:
    """The error scale, its factor per slot and the tracked quantiles."""
    z = len(method.horizons)
    return [
        ("error_scale", "f4", (z,)),  # sigma, mean absolute error
        ("quantile", "f8" if method.full else "f4", (z, len(method.quantiles))),  # of error / width
        ("slot_factor", factor_kept(method)[0], (z, method.season_slots)),  # u
        ("slot_scored", "u1", (z, method.season_slots)),  # no more than 255 matter
    ]


def initialise(method: Method, row: np.void) -> None:
    """Start with the normal's quantiles, somewhat wider, and a factor of one in every slot."""
    row["quantile"][:] = START * method.normal_quantiles
    row["slot_factor"][:] = np.rint(factor_kept(method)[1])


def fixed(method: Method) -> Mapping[str, npt.ArrayLike]:
    """Which quantiles are tracked and how fast; the units of what waits."""
    return {
        "levels": method.levels,  # (Q,)
        "rates": method.interval_rates,  # (Q,)
        "factor_unit": factor_kept(method)[1],
        "edge_unit": method.ring_unit(EDGE),
    }


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Learn from the errors of the forecasts whose label arrived, in the slot it arrived in.

    The ring of values must still end at the event before.
    """
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    levels = fixed[0]["levels"]
    rate = fixed[0]["rates"]
    factor_unit = fixed[0]["factor_unit"]
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        z = events[b]["z"]
        values = row["values"]
        unit = row["pending_unit"]
        move = row["pending_move"]
        width = row["pending_width"]
        error_scale = row["error_scale"]
        scale = row["scale"]
        quantile = row["quantile"]
        factor = row["slot_factor"]
        scored = row["slot_scored"]
        s = row["slot"]
        for j in range(len(horizons)):
            h = horizons[j]
            labels = n - h + 1
            if labels < 1:
                continue
            place = start[j] + n % h
            e = z - (values[(n - h) % len(values)] + move[place] * unit[place])
            made_with = width[place] * unit[place]
            if made_with < 0.0:
                continue
            if labels > h and made_with > 0.0:
                for q in range(len(levels)):
                    below = 1.0 if e / made_with <= quantile[j, q] else 0.0
                    quantile[j, q] += max(rate[q], min(0.1, 2.0 / labels)) * (levels[q] - below)
            size = abs(e)
            sigma = max(error_scale[j], LEAST_ERROR * scale[j]) if labels > 1 else 0.0
            if sigma > 0.0:
                scored[j, s] = min(scored[j, s] + 1, 255)
                slot_rate = max(SLOT_RATE, 1.0 / (scored[j, s] + 10.0))
                u = factor[j, s] / factor_unit
                u += slot_rate * (min(size / sigma, SLOT_CLIP) - u)
                factor[j, s] = np.rint(u * factor_unit)
                size /= min(max(u, SHARE[0]), SHARE[1])
                if labels > WARM:
                    size = min(size, CLIP * sigma)
            error_scale[j] = sigma + max(1.0 / MEMORY, 1.0 / labels) * (size - sigma)


@kernel
def forecast(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Find how wide the band is, and where its quantiles are in it."""
    horizons = fixed[0]["horizons"]
    factor_unit = fixed[0]["factor_unit"]
    edge_unit = fixed[0]["edge_unit"]
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        target_slot = events[b]["slot_ahead"]
        width = events[b]["width"]
        edges = events[b]["edges"]
        scale = row["scale"]
        error_scale = row["error_scale"]
        quantile = row["quantile"]
        factor = row["slot_factor"]
        for j in range(len(horizons)):
            width[j] = 0.0
            if scale[j] > 0.0:
                width[j] = MEAN_TO_DEVIATION
                if n >= horizons[j]:
                    u = factor[j, target_slot[j]] / factor_unit
                    width[j] = min(max(error_scale[j] / scale[j], LEAST_ERROR) * max(u, LEAST_SLOT), WIDEST)
            for q in range(edges.shape[1]):
                edge = np.rint(min(max(quantile[j, q], -EDGE), EDGE) * edge_unit)
                k = q
                while k > 0 and edges[j, k - 1] > edge:
                    edges[j, k] = edges[j, k - 1]
                    k -= 1
                edges[j, k] = edge


PART = Part(fields, initialise, fixed, learn=(learn,), forecast=(forecast,))
