"""Forecasts that wait for their label: with what scale, move and band each was made, and how it turned out.

The label of a forecast is the move that came, (z_t - z_o) / c_h(o), in the horizon scale as it was at the origin o.
Horizon h has a ring of h places, the one of event n is n mod h; all parts of the method that wait use these places.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import experts
from pipeline.parts.part import Part

MOST = 3e38  # of a move: float32's
ENOUGH = 255  # labels: what one byte counts, and all that anybody waits for
WARM = 20  # labels before which the present scale is not trusted as a unit


def fields(method: Method) -> list[Field]:
    """One place for every forecast that waits."""
    waiting = method.pending_size
    return [
        ("pending_unit", "f4", (waiting,)),  # c_h(o)
        ("pending_move", "f4", (waiting,)),  # from z to what was published, in that unit
        ("pending_width", "f4", (waiting,)),  # of the band, in that unit; below 0 where the move is not the mixture's
        ("pending_network", "f4", (method.horizons[0],)),  # the network's own move, first horizon only
        ("pending_labels", "u1", (len(method.horizons),)),  # that came, up to ENOUGH
        ("pending_band", method.ring, (waiting, 2 * method.bands)),  # low, high of each pair of quantiles, in the width
    ]


@kernel
def score(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Find the labels that came with z, and score their forecasts by the raw value, which is the published one.

    There is no label where no forecast waited or the stream had no scale, no error where labels were too few to trust
    the present scale as a unit.
    """
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    edge_unit = fixed[0]["edge_unit"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        least = fixed[0]["least"] if row["below_floor"] == 0 else -np.inf  # up to the event before
        n = event["n"]
        raw = event["raw"]
        label = event["label"]
        error = event["error"]
        naive = event["naive"]
        error_scale = event["error_scale"]
        inside = event["inside"]
        expected = event["expected"]
        scale = row["scale"]
        unit = row["pending_unit"]
        move = row["pending_move"]
        width = row["pending_width"]
        band = row["pending_band"]
        event["network_error"] = np.nan
        expected[:] = np.nan
        for j in range(len(horizons)):
            h = horizons[j]
            labels = n - h + 1
            label[j] = np.nan
            error[j] = np.nan
            naive[j] = np.nan
            error_scale[j] = np.nan
            inside[j, :] = 0
            if labels < 1:
                continue
            place = start[j] + n % h
            last = row["values"][(n - h) % len(row["values"])]
            if unit[place] > 0.0:
                label[j] = (event["z"] - last) / unit[place]
                row["pending_labels"][j] = min(row["pending_labels"][j] + 1, ENOUGH)
            last -= row["moved"][(n - h) % len(row["moved"])]  # where it was when the forecast was made
            mean = last + move[place] * unit[place]
            size = abs(width[place]) * unit[place]
            if labels > WARM and scale[j] > 0.0:
                error[j] = (raw - mean) / scale[j]
                naive[j] = error[j] if width[place] < 0.0 else (raw - last) / scale[j]  # it began at the raw one too
                error_scale[j] = scale[j]
                if j == 0 and width[place] >= 0.0:
                    event["network_error"] = (raw - (last + row["pending_network"][n % h] * unit[place])) / scale[j]
            for k in range(inside.shape[1]):
                low = mean + band[place, 2 * k] / edge_unit * size
                high = mean + band[place, 2 * k + 1] / edge_unit * size
                inside[j, k] = 1 if low <= raw <= high else 0
                if j == 0 and k == 0 and size > 0.0:
                    expected[0] = max(mean, least)
                    expected[1] = max(low, least)
                    expected[2] = high


@kernel
def keep(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Put the forecasts into the rings, and publish them as exactly as they are kept, in the units of z.

    Where no value that counts was ever below the floor, nothing published is; what is kept is, by less than a unit.
    """
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    edge_unit = fixed[0]["edge_unit"]
    floor = fixed[0]["least"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        n = event["n"]
        z = event["z"]
        base = event["base"]
        moves = event["mixed_move"]
        widths = event["width"]
        edges = event["edges"]
        mean = event["mean"]
        quantiles = event["quantiles"]
        last = edges.shape[1] - 1
        middle = last // 2
        scale = row["scale"]
        unit = row["pending_unit"]
        move = row["pending_move"]
        width = row["pending_width"]
        band = row["pending_band"]
        row["pending_network"][n % horizons[0]] = event["network_move"][0]
        least = floor if row["below_floor"] == 0 else -np.inf
        for j in range(len(horizons)):
            place = start[j] + n % horizons[j]
            unit[place] = scale[j]
            move[place] = moves[j]
            width[place] = widths[j]
            size = width[place] * unit[place]
            if base != z and scale[j] > 0.0:
                move[place] = min(max(moves[j] + (base - z) / scale[j], (least - z) / scale[j], -MOST), MOST)
                width[place] = -width[place]
            mean[j] = max(z + move[place] * unit[place], least)
            bottom = np.floor((least - mean[j]) / size * edge_unit) if size > 0.0 else -np.inf
            for q in range(last + 1):
                edges[j, q] = max(edges[j, q], bottom)
                quantiles[j, q] = max(mean[j] + edges[j, q] / edge_unit * size, least)
            lower, upper = (-np.inf, np.inf) if last == 0 else (quantiles[j, middle - 1], quantiles[j, middle + 1])
            if abs(quantiles[j, middle] - base) * edge_unit <= size and lower <= base <= upper:
                quantiles[j, middle] = base  # it was meant
            for k in range(band.shape[1] // 2):
                band[place, 2 * k] = edges[j, k]
                band[place, 2 * k + 1] = edges[j, last - k]


@kernel
def keep_parts(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Single experts' forecasts in the units of z, for whoever asks."""
    parts = fixed[0]["parts"]
    for b in range(len(events)):
        event = events[b]
        scale = rows[event["row"]]["scale"]
        moves = event["moves"]
        forecasts = event["parts"]
        for j in range(len(forecasts)):
            for x in range(len(parts)):
                forecasts[j, x] = event["base"] + moves[parts[x], j] * scale[j]


PART = Part(
    fields,
    fixed=lambda method: {"parts": experts.places(method, experts.part_names(method))},
    score=(score,),
    forecast=(keep, keep_parts),
)
