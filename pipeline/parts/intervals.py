"""Intervals by tracking the quantiles of the mixture's own past errors, per stream and horizon.

    e = z_t - M_h(o);  u[slot(t)] <- EW-rate max(.05, 1/(count/slots + 10)) of min(|e|/(f(o) sigma), 6)
    v <- EW((u[slot(t)] - 1)^2, 500);  u' = 1 + max(0, 1 - .0256 min(count/1000, 1)/v) (u - 1)
    a = |e| / (f(o) clip(u'[slot(t)], .5..1.2)), f as in unrest.py
    sigma += max(1/200, 1.5/(count + .5)) (min(a, 8 sigma) - sigma)
    lately <- EW(min(a, 3 max(sigma, lately)), 30 + 3 h);  neither is below c_h/50
    r = lately/sigma;  size = sigma + min(1, ((r - 1/r)/.8)^2) (lately - sigma)
    for each level tau: q_tau += g_tau clip(2000/count, 1..1 + 5/h) max(1, d_tau) (tau - [e/width(o) <= q_tau])
    d_tau = |q_tau - its neighbour towards the median| by what it was at first;  the median's rate is 2/count at first
    width = size f max(u'[slot(t+h)], .05) as it was at the origin;  band = M_h + sort(q) width

Each quantile of the scaled error moves up by its level after a miss above and down after one below, so in the long run
it is exceeded exactly as often as it should be, also by spikes that are held: there e is the raw value's (quantile
tracking, as in Angelopoulos, Candes and Tibshirani, "Conformal PID control for time series prediction", 2023). It moves
further where labels are few yet, and where quantiles are far apart, since there it has a long way to go. Where noise
has just grown or fallen, the mean of the last errors is far from that of many, and the width follows it; else it would
only add noise. The share of an error that u explains to sigma is bounded, or u would hold sigma down while a stream's
errors grow a thousandfold. Where slots are alike, u is away from 1 by chance alone: its rate of .05 makes the spread v
.05/1.95 = .0256 times the variance of |e| by its mean's square, which is 1 where errors have Laplace's law. So u counts
as far as v is more; a young stream's u counts all the same, as a spread is known only after some hundred labels.

Where many labels are exactly no change, the median is the last value, whatever the mean is; so the published median
goes there, as far as its neighbours let it, where the last value was the nearer one lately:

    D <- EW(clip((|e - q_.5 width(o)| - |z_t - z_o|)/c_h(o), 8), 500);  median += clip(20 D, 0..1) (z_t - median)
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Events, Field, Fixed, Floats, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part

MEMORY = 200.0  # labels
RISING = 1.5  # of the first labels those that come later count for more: a stream's first errors are its largest
LATELY = 30.0  # of the short memory, and three horizons: errors so far ahead overlap
NOTABLE = 0.4  # (r - 1/r)/2 from which on the short memory counts alone
SETTLED = 2000.0  # labels after which quantiles move at their least rate
FASTER = 5.0  # times that by the horizon, and more, at first
CLIP = 8.0  # errors above so many times their mean are cut in the scale
CLIP_LATELY = 3.0  # in the short memory: one of them is no change
SLOT_CLIP = 6.0
SLOT_RATE = 0.05
LEAST_ERROR = 0.02  # least sigma, in horizon scales: after months of one constant it must find back
LEAST_SLOT = 0.05  # of the slot factor
SPREAD_MEMORY = 500.0  # labels
CHANCE = SLOT_RATE / (2.0 - SLOT_RATE)  # spread of slot factors about 1 where slots are alike
SURE = 1000.0  # labels from which on so much of it is chance
SHARE = (0.5, 1.2)  # of an error that the slot factor may explain to the scale
WARM = 20
START = 1.25  # tracked quantiles start at so many times the normal's
MEDIAN_MEMORY = 500.0  # labels
MEDIAN_GAIN = 20.0
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
        ("error_lately", "f4", (z,)),  # the same with a short memory
        ("median_worse", "f4", (z,)),  # D, than the last value
        ("slot_spread", "f4", (z,)),  # v
        ("quantile", "f8" if method.full else "f4", (z, len(method.quantiles))),  # of error / width
        ("slot_factor", factor_kept(method)[0], (z, method.season_slots)),  # u
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
        "apart": _apart(method),  # (Q,)
        "factor_unit": factor_kept(method)[1],
        "edge_unit": method.ring_unit(EDGE),
    }


def _apart(method: Method) -> Floats:
    """(Q,) how far from its neighbour towards the median each quantile starts; the median has none."""
    inward = np.diff(START * method.normal_quantiles)
    return np.concatenate([inward[: method.bands], [np.inf], inward[method.bands :]])


@kernel
def track(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Move the quantiles by the errors of the forecasts whose label arrived, and see how the median did.

    The ring of values must still end at the event before.
    """
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    levels = fixed[0]["levels"]
    rate = fixed[0]["rates"]
    apart = fixed[0]["apart"]
    middle = len(levels) // 2
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        z = events[b]["z"]
        held = events[b]["raw"] - z
        values = row["values"]
        moved = row["moved"]
        unit = row["pending_unit"]
        move = row["pending_move"]
        width = row["pending_width"]
        quantile = row["quantile"]
        worse = row["median_worse"]
        for j in range(len(horizons)):
            h = horizons[j]
            labels = n - h + 1
            place = start[j] + n % h
            made_with = width[place] * unit[place]
            if labels <= h or made_with <= 0.0:
                continue
            origin = (n - h) % len(values)
            last = values[origin] - moved[min(origin, len(moved) - 1)]  # lite moves none, and keeps one
            e = z - (last + move[place] * unit[place])
            d = (abs(e - quantile[j, middle] * made_with) - abs(z - last)) / unit[place]
            worse[j] += (min(max(d, -CLIP), CLIP) - worse[j]) / MEDIAN_MEMORY
            pace = min(max(SETTLED / labels, 1.0), 1.0 + FASTER / h)
            for i in range(len(levels)):  # from both ends inwards, so that no neighbour has moved yet
                q = i if i < middle else len(levels) - 1 + middle - i
                inner = q + 1 if q < middle else max(q - 1, middle)
                step = rate[q] * pace * max(abs(quantile[j, q] - quantile[j, inner]) / apart[q], 1.0)
                if q == middle:
                    step = max(step, min(0.1, 2.0 / labels))
                below = 1.0 if (e + held) / made_with <= quantile[j, q] else 0.0
                quantile[j, q] += step * (levels[q] - below)


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Measure the errors of the forecasts whose label arrived, in the slot it arrived in."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    slots = fixed[0]["slots"]
    factor_unit = fixed[0]["factor_unit"]
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        z = events[b]["z"]
        values = row["values"]
        moved = row["moved"]
        unit = row["pending_unit"]
        move = row["pending_move"]
        width = row["pending_width"]
        error_scale = row["error_scale"]
        lately = row["error_lately"]
        scale = row["scale"]
        factor = row["slot_factor"]
        spread = row["slot_spread"]
        unrest = row["unrest"]
        gain = row["unrest_gain"]
        in_widths = events[b]["error_in_widths"]
        events[b]["shortest_error"] = np.nan
        s = row["slot"]
        for j in range(len(horizons)):
            h = horizons[j]
            labels = n - h + 1
            place = start[j] + n % h
            in_widths[j] = np.nan
            if labels < 1 or width[place] * unit[place] < 0.0:
                continue
            origin = (n - h) % len(values)
            last = values[origin] - moved[min(origin, len(moved) - 1)]  # lite moves none, and keeps one
            whole = size = abs(z - (last + move[place] * unit[place]))
            if len(unrest) > 0:
                size /= 1.0 + gain[j] * (unrest[origin] - 1.0)
            least = LEAST_ERROR * scale[j] if labels > 1 else 0.0
            sigma = max(error_scale[j], least)
            short = max(lately[j], least)
            most = most_lately = np.inf
            if sigma > 0.0:
                slot_rate = max(SLOT_RATE, 1.0 / (labels / slots + 10.0))
                u = factor[j, s] / factor_unit
                u += slot_rate * (min(size / sigma, SLOT_CLIP) - u)
                factor[j, s] = np.rint(u * factor_unit)
                spread[j] += max(1.0 / SPREAD_MEMORY, 1.0 / labels) * ((u - 1.0) ** 2 - spread[j])
                chance = min(CHANCE / SURE * labels, CHANCE)
                u = 1.0 + (1.0 - chance / spread[j]) * (u - 1.0) if spread[j] > chance else 1.0
                share = min(max(u, SHARE[0]), SHARE[1])
                size /= share
                whole /= share
                in_widths[j] = size / sigma
                if labels > WARM:
                    most, most_lately = CLIP * sigma, CLIP_LATELY * max(sigma, short)
            if j == 0:
                events[b]["shortest_error"] = whole
            error_scale[j] = sigma + max(1.0 / MEMORY, RISING / (labels + RISING - 1.0)) * (min(size, most) - sigma)
            lately[j] = short + max(1.0 / (LATELY + 3.0 * h), 1.0 / labels) * (min(size, most_lately) - short)


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
        mixed = events[b]["mixed_move"]
        scale = row["scale"]
        error_scale = row["error_scale"]
        lately = row["error_lately"]
        worse = row["median_worse"]
        quantile = row["quantile"]
        factor = row["slot_factor"]
        spread = row["slot_spread"]
        unrest = row["unrest"]
        gain = row["unrest_gain"]
        last = edges.shape[1] - 1
        middle = last // 2
        for j in range(len(horizons)):
            width[j] = 0.0
            if scale[j] > 0.0:
                width[j] = MEAN_TO_DEVIATION
                if n >= horizons[j]:
                    u = factor[j, target_slot[j]] / factor_unit
                    sigma = min(max(error_scale[j] / scale[j], LEAST_ERROR), WIDEST)
                    short = min(max(lately[j] / scale[j], LEAST_ERROR), WIDEST)
                    apart = (short / sigma - sigma / short) / 2.0
                    sigma += min((apart / NOTABLE) ** 2, 1.0) * (short - sigma)
                    chance = min(CHANCE / SURE * (n - horizons[j] + 1), CHANCE)
                    u = 1.0 + (1.0 - chance / spread[j]) * (u - 1.0) if spread[j] > chance else 1.0
                    if len(unrest) > 0:
                        sigma *= 1.0 + gain[j] * (unrest[n % len(unrest)] - 1.0)
                    width[j] = min(sigma * max(u, LEAST_SLOT), WIDEST)
            for q in range(edges.shape[1]):
                edge = np.rint(min(max(quantile[j, q], -EDGE), EDGE) * edge_unit)
                k = q
                while k > 0 and edges[j, k - 1] > edge:
                    edges[j, k] = edges[j, k - 1]
                    k -= 1
                edges[j, k] = edge
            if width[j] > 0.0:
                median = edges[j, middle]
                median += min(max(MEDIAN_GAIN * worse[j], 0.0), 1.0) * (-mixed[j] / width[j] * edge_unit - median)
                if last > 0:
                    median = min(max(median, edges[j, middle - 1]), edges[j, middle + 1])
                edges[j, middle] = median


def error_sizes(row: np.void) -> Floats:
    """(Z,) the size of error that the width of a row's next bands follows, in the units of z."""
    least = LEAST_ERROR * row["scale"][: len(row["error_scale"])].astype(np.float64)
    sigma, short = np.maximum(row["error_scale"], least), np.maximum(row["error_lately"], least)
    with np.errstate(divide="ignore", invalid="ignore"):  # both are 0 before there are errors
        share = np.minimum(((short / sigma - sigma / short) / 2 / NOTABLE) ** 2, 1)
    sizes: Floats = sigma + np.nan_to_num(share) * (short - sigma)
    if unrest := row["unrest"].tolist():
        sizes *= 1 + row["unrest_gain"].astype(np.float64) * (unrest[(int(row["count"]) - 1) % len(unrest)] - 1)
    return sizes


def slot_factors(row: np.void, method: Method) -> Floats:
    """(Z, slots) the factors by which a row's next bands are wider in one slot than in others."""
    labels = int(row["count"]) - method.horizon_array
    chance, spread = CHANCE * np.clip(labels / SURE, 0, 1), row["slot_spread"].astype(np.float64)
    kept = 1 - np.divide(chance, spread, out=np.ones(len(spread)), where=spread > chance)[:, None]
    factors: Floats = 1 + kept * (row["slot_factor"] / factor_kept(method)[1] - 1)
    return factors


PART = Part(fields, initialise, fixed, learn=(track, learn), forecast=(forecast,))
