"""Forecasts that wait for their label: with what scale, move and band each was made, and how it turned out.

The label of a forecast is the move that came, (z_t - z_o) / c_h(o), in the horizon scale as it was at the origin o.
Horizon h has a ring of h places, the one of event n is n mod h; all parts of the method that wait use these places.
"""

import numpy as np

from pipeline.arrays import Bools, Field, Floats, Floats32, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method

WARM = 20  # labels before which the present scale is not trusted as a unit


def fields(method: Method) -> list[Field]:
    """One place for every forecast that waits."""
    waiting = method.pending_size
    return [
        ("pending_unit", "f4", (waiting,)),  # c_h(o)
        ("pending_move", "f4", (waiting,)),  # of the mixture, in that unit
        ("pending_width", "f4", (waiting,)),  # of the band, in that unit
        ("pending_network", "f4", (method.horizons[0],)),  # the network's own move, first horizon only
        ("pending_band", method.ring, (waiting, 2 * method.bands)),  # low, high of each pair of quantiles, in the width
    ]


@kernel
def score(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    raw: Floats,  # (B,) the value as it came, a spike too
    z: Floats,  # (B,) what it counts as
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    edge_unit: float,
    label: Floats,  # (B, Z) out: the moves that came with z; NaN: no forecast waited, or the stream had no scale
    error: Floats,  # (B, Z) out: raw - forecast in units of c_h; NaN: no label, or too few before it to trust the unit
    naive: Floats,  # (B, Z) out: raw - last value, same units
    network_error: Floats,  # (B,) out: raw - the network's own forecast of the first horizon, same units
    inside: Bools,  # (B, Z, bands) out
    expected: Floats,  # (B, 3) out: mean, low, high that the shortest horizon said of this event, NaN without one
) -> None:
    """Find the labels that came, and score their forecasts by the value that is published."""
    for b in range(len(index)):
        row = rows[index[b]]
        values = row["values"]
        scale = row["scale"]
        unit = row["pending_unit"]
        move = row["pending_move"]
        width = row["pending_width"]
        band = row["pending_band"]
        network = row["pending_network"]
        network_error[b] = np.nan
        expected[b, :] = np.nan
        for j in range(len(horizons)):
            h = horizons[j]
            labels = n[b] - h + 1
            label[b, j] = np.nan
            error[b, j] = np.nan
            naive[b, j] = np.nan
            inside[b, j, :] = False
            if labels < 1:
                continue
            place = start[j] + n[b] % h
            last = values[(n[b] - h) % len(values)]
            if unit[place] > 0.0:
                label[b, j] = (z[b] - last) / unit[place]
            mean = last + move[place] * unit[place]
            size = width[place] * unit[place]
            if labels > WARM and scale[j] > 0.0:
                error[b, j] = (raw[b] - mean) / scale[j]
                naive[b, j] = (raw[b] - last) / scale[j]
                if j == 0:
                    network_error[b] = (raw[b] - (last + network[n[b] % h] * unit[place])) / scale[j]
            for k in range(inside.shape[2]):
                low = mean + band[place, 2 * k] / edge_unit * size
                high = mean + band[place, 2 * k + 1] / edge_unit * size
                inside[b, j, k] = low <= raw[b] <= high
                if j == 0 and k == 0 and size > 0.0:
                    expected[b, 0] = mean
                    expected[b, 1] = low
                    expected[b, 2] = high


@kernel
def keep(
    rows: Rows,
    index: Ints,  # (B,)
    n: Ints,  # (B,)
    z: Floats,  # (B,)
    horizons: Ints,  # (Z,)
    start: Ints,  # (Z + 1,)
    edge_unit: float,
    said: Floats32,  # (B, Z) the network's moves
    moves: Floats,  # (B, Z) the mixture's
    widths: Floats,  # (B, Z) of the bands
    edges: Floats,  # (B, Z, Q) of the bands, in widths times the unit
    mean: Floats,  # (B, Z) out: in the units of z
    quantiles: Floats,  # (B, Z, Q) out
) -> None:
    """Put the forecasts into the rings, and say them as exactly as they are kept."""
    last = edges.shape[2] - 1
    for b in range(len(index)):
        row = rows[index[b]]
        scale = row["scale"]
        unit = row["pending_unit"]
        move = row["pending_move"]
        width = row["pending_width"]
        band = row["pending_band"]
        row["pending_network"][n[b] % horizons[0]] = said[b, 0]
        for j in range(len(horizons)):
            place = start[j] + n[b] % horizons[j]
            unit[place] = scale[j]
            move[place] = moves[b, j]
            width[place] = widths[b, j]
            size = width[place] * unit[place]
            mean[b, j] = z[b] + move[place] * unit[place]
            for q in range(last + 1):
                quantiles[b, j, q] = mean[b, j] + edges[b, j, q] / edge_unit * size
            for k in range(band.shape[1] // 2):
                band[place, 2 * k] = edges[b, j, k]
                band[place, 2 * k + 1] = edges[b, j, last - k]
