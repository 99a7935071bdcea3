"""A stream's state and one forecast of it in plain numbers, for people who ask why.

Nothing here forecasts: all is read from the row, and from the event's record as the wave left it.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from pipeline.arrays import Floats, Ints
from pipeline.method import Method
from pipeline.parts import drift, experts, intervals, mixture, season
from pipeline.parts.admission import GAPS
from pipeline.records import fixed

Facts = dict[str, Any]  # as JSON has it; forecasts are in the value's units

SEASONS = {code: name for name, code in season.CODES.items()}


def state_of(row: np.void, method: Method) -> Facts:
    """Return what a row knows: its last event, step and season, and by horizon the forecast made last and its parts.

    Scales are in the units of the (transformed) value.
    """
    gaps = row["gaps_ms"][: min(int(row["gap_count"]), GAPS)]
    step = {"step_ms": math.floor(np.median(gaps))} if len(gaps) else {"step_ms": None}
    scales = {name: float(row[name]) for name in ("mean", "spread", "step_scale")}
    facts: Facts = {"events": int(row["count"]), "time_ms": int(row["time_ms"]), "value": float(row["value"]), **step}
    facts |= {"season": SEASONS[int(row["season"])], "slots_seen": int((row["slot_visits"] > 0).sum()), **scales}
    if not row["count"]:
        return facts | {"horizons": {}}
    weights, sizes = mixture.weights(row), intervals.error_sizes(row).tolist()
    guards = mixture.guards(row) * drift.shares(row, method)
    names = mixture.names(method)
    facts["horizons"] = {
        str(horizon): {
            "scale": float(row["scale"][j]),
            "error_scale": sizes[j],
            "weights": dict(zip(names, weights[j].tolist(), strict=True)),
            "guard": float(guards[j]),
            "quantiles_in_widths": _by_level(method, np.sort(row["quantile"][j]).tolist()),
            **_waiting(row, j, method),
        }
        for j, horizon in enumerate(method.horizons)
    }
    return facts


def _waiting(row: np.void, j: int, method: Method) -> Facts:
    """The last forecast of a horizon, as it waits for its label."""
    n = int(row["count"]) - 1
    place = int(method.pending_start[j]) + n % method.horizons[j]
    unit = row["pending_unit"][place]
    mean = row["values"][n % len(row["values"])] + row["pending_move"][place] * unit
    size = float(abs(row["pending_width"][place]) * unit)
    edges = row["pending_band"][place] / fixed(method)[0]["edge_unit"]
    least = -math.inf if row["below_floor"] else method.least
    mean = max(mean, least)
    bands = {
        str(level): [_out(max(mean + edges[2 * k + side] * size, least), method) for side in (0, 1)]
        for k, level in enumerate(method.band_levels)
    }
    return {"width": size, "mean": _out(mean, method), "bands": bands}


def explained(row: np.void, event: np.void, method: Method) -> Facts:
    """Return the parts of the forecast that an event was given, by horizon: experts, weights, scales, the interval's.

    `event` is the whole record that the wave has left (`Wave.stepped`), `row` the stream's right after it.
    """
    weights, sizes = mixture.weights(row), intervals.error_sizes(row).tolist()
    factors = intervals.slot_factors(row, method)
    guards = mixture.guards(row) * drift.shares(row, method)
    base, names = float(event["base"]), mixture.names(method)
    stacked = experts.stacked(method) if method.full else []
    horizons: Facts = {}
    for j, horizon in enumerate(method.horizons):
        scale = float(row["scale"][j])
        width, edges = float(event["width"][j]), event["edges"][j] / fixed(method)[0]["edge_unit"]
        factor = float(factors[j, event["slot_ahead"][j]])
        horizons[str(horizon)] = {
            "experts": {
                name: {"forecast": _out(base + move * scale, method), "weight": float(weight)}
                for name, move, weight in zip(names, event["counted"][j].tolist(), weights[j], strict=True)
            },
            "stacking": {
                name: {
                    "forecast": _out(base + float(event[f"{name}_move"][j]) * scale, method),
                    "weight": float(weight),
                }
                for name, weight in zip(stacked, row["stack_weights"][j] if stacked else (), strict=False)
            },
            "guard": float(guards[j]),
            "scale": scale,
            "error_scale": sizes[j],
            "slot": int(event["slot_ahead"][j]),
            "slot_factor": factor,
            "width": width * scale,
            "quantiles_in_widths": _by_level(method, edges.tolist()),
            "mean": float(event["mean"][j]),
            "quantiles": _by_level(method, event["quantiles"][j].tolist()),
        }
    return {"value": float(event["value"]), "counts_as": _out(event["z"], method), "horizons": horizons}


def _by_level(method: Method, numbers: list[float]) -> dict[str, float]:
    return dict(zip(map(repr, method.quantiles), numbers, strict=True))


def _out(z: float, method: Method) -> float:
    """In the value's units."""
    return math.exp(min(max(float(z), -700.0), 700.0)) if method.transform == "log" else float(z)


class Opinions(NamedTuple):
    """The experts of the mixture, the last value first, with their forecasts in the value's units."""

    names: list[str]  # (E,)
    forecasts: Floats  # (Z, E)
    weights: Floats  # (Z, E) sum to 1 over E


def opinions(row: np.void, method: Method) -> Opinions:
    """Return what the experts said at the row's last event, read back from the row alone; there must have been one.

    Moves wait in the row as signed square roots, at most four scales from the mixture's: a forecast that lies nearer is
    exact to a two-thousandth of its horizon's scale, to a twenty-fifth in the lite profile.
    """
    n = int(row["count"]) - 1
    assert n >= 0, "a stream without an event has no forecast"
    place = method.pending_start[:-1] + n % method.horizon_array  # (Z,)
    z, unit = row["values"][n % len(row["values"])], row["pending_unit"][place].astype(np.float64)
    mixed = row["pending_move"][place] + _move(row["mixture_withheld"][place], method)  # (Z,) before the guard
    others = mixed[:, None] + _move(row["mixture_apart"][place], method)
    forecasts = np.insert(z + others * unit[:, None], mixture.LAST, _base(row, place, z), axis=1)
    if method.transform == "log":
        forecasts = np.exp(np.clip(forecasts, -700, 700))
    return Opinions(mixture.names(method), forecasts, mixture.weights(row))


def _base(row: np.void, place: Ints, z: float) -> float:
    """Return what the forecasts at these places are moves from: z, but the raw value at a stream's first suspect."""
    return float(row["suspect"][0]) if (row["pending_width"][place] < 0.0).any() else z


def _move(share: Floats, method: Method) -> Floats:
    """Return the move that a signed square root stands for, in horizon scales."""
    root: Floats = share.astype(np.float64) / method.root
    return root * abs(root) * mixture.CLIP
