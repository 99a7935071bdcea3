"""Intervals by tracking the quantiles of the forecast's own past errors, per stream and horizon.

Each quantile of the scaled error moves up by its level after a miss above and down after one below, so in the long
run it is exceeded exactly as often as it should be (quantile tracking, as in Angelopoulos, Candes and Tibshirani,
"Conformal PID control for time series prediction", 2023). Forecasts wait in rings until their label arrives:
horizon h has a ring of h places, the one of event n is n mod h.
"""

import numpy as np

from pipeline.compiled import Bools, Field, Floats, Floats32, Ints, Rows, kernel
from pipeline.method import Method

MEMORY = 200.0  # labels
CLIP = 8.0  # errors above so many times their mean are cut in the scale
WARM = 20
START = 1.2  # tracked quantiles start at so many times the normal's
MEAN_TO_DEVIATION = 0.8  # mean absolute value of a standard normal, before there are errors to measure
RATE = 0.0013  # of the median's density; levels in the tails move faster


def fields(method: Method) -> list[Field]:
    """Pending forecasts with their bands, the error scale and the tracked quantiles."""
    z, pending = len(method.horizons), method.pending_size
    return [
        ("pending_mean", "f8", (pending,)),
        ("pending_scale", "f8", (pending,)),  # the error scale the band was made with
        ("pending_band", "f8", (pending, 2 * method.bands)),  # low, high of each pair of quantiles
        ("error_scale", "f8", (z,)),  # mean absolute error
        ("quantile", "f8", (z, len(method.quantiles))),  # of error / error scale
    ]


def born(method: Method, row: np.void) -> None:
    """Set what does not start at zero."""
    row["quantile"][:] = START * method.normal_quantiles


def rates(method: Method) -> Floats:
    """(Q,) how far each level moves per label, larger where labels are rare."""
    density = np.exp(-(method.normal_quantiles**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(RATE / density, np.float64)


@kernel
def score(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,) event index in the stream
    z: Floats,  # (B,)
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    levels: Floats,  # (Q,)
    rate: Floats,  # (Q,)
    error: Floats,  # (B, Z) out: z - forecast in units of c_h; NaN: no label, or too few before it to trust the unit
    naive: Floats,  # (B, Z) out: z - last value, same units
    inside: Bools,  # (B, Z, bands) out
    expected: Floats,  # (B, 3) out: mean, low, high that the shortest horizon said of this event, NaN without one
) -> None:
    """Score the forecasts whose label is z, then learn from their errors."""
    longest = horizons[-1]
    for b in range(len(index)):
        row = rows[index[b]]
        values = row["values"]
        scale = row["scale"]
        pending_mean = row["pending_mean"]
        pending_scale = row["pending_scale"]
        pending_band = row["pending_band"]
        error_scale = row["error_scale"]
        quantile = row["quantile"]
        for j in range(len(horizons)):
            h = horizons[j]
            labels = n[b] - h + 1
            error[b, j] = np.nan
            naive[b, j] = np.nan
            if labels < 1:
                continue
            place = start[j] + n[b] % h
            e = z[b] - pending_mean[place]
            if labels > WARM and scale[j] > 0.0:
                error[b, j] = e / scale[j]
                naive[b, j] = (z[b] - values[(n[b] - h) % longest]) / scale[j]
            for k in range(inside.shape[2]):
                inside[b, j, k] = pending_band[place, 2 * k] <= z[b] <= pending_band[place, 2 * k + 1]
            made_with = pending_scale[place]
            if made_with > 0.0:
                for q in range(len(levels)):
                    below = 1.0 if e / made_with <= quantile[j, q] else 0.0
                    quantile[j, q] += max(rate[q], min(0.1, 2.0 / labels)) * (levels[q] - below)
            size = abs(e)
            if labels > WARM and error_scale[j] > 0.0:
                size = min(size, CLIP * error_scale[j])
            error_scale[j] += max(1.0 / MEMORY, 1.0 / labels) * (size - error_scale[j])
        place = start[0] + n[b] % horizons[0]
        expected[b, :] = np.nan
        if n[b] >= horizons[0] and pending_scale[place] > 0.0 and pending_band.shape[1] > 0:
            expected[b, 0] = pending_mean[place]
            expected[b, 1] = pending_band[place, 0]
            expected[b, 2] = pending_band[place, 1]


@kernel
def forecast(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    z: Floats,  # (B,)
    move: Floats32,  # (B, Z) forecast change from z in units of c_h
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    mean: Floats,  # (B, Z) out
    quantiles: Floats,  # (B, Z, Q) out
) -> None:
    """Place the band around the forecast and put both into the rings. A move that is not finite counts as none."""
    for b in range(len(index)):
        row = rows[index[b]]
        scale = row["scale"]
        error_scale = row["error_scale"]
        quantile = row["quantile"]
        pending_mean = row["pending_mean"]
        pending_scale = row["pending_scale"]
        pending_band = row["pending_band"]
        for j in range(len(horizons)):
            h = horizons[j]
            m = z[b]
            if np.isfinite(move[b, j]):
                m += move[b, j] * scale[j]
            width = error_scale[j] if n[b] >= h else MEAN_TO_DEVIATION * scale[j]
            quantiles[b, j, :] = np.sort(quantile[j]) * width + m
            mean[b, j] = m
            place = start[j] + n[b] % h
            pending_mean[place] = m
            pending_scale[place] = width
            last = quantiles.shape[2] - 1
            for k in range(pending_band.shape[1] // 2):
                pending_band[place, 2 * k] = quantiles[b, j, k]
                pending_band[place, 2 * k + 1] = quantiles[b, j, last - k]
