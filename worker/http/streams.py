"""What is remembered of streams as JSON: all of them in short, or one with its points."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.arrays import Bools, Floats
from pipeline.batch import DROPS
from pipeline.explanation import Opinions
from pipeline.method import Method
from pipeline.records import published
from pipeline.rounding import significant
from worker.observe.recent import LABELS, Overview, Past, RecentStreams, Records, coverage, outside, skill

Json = dict[str, object]

GAP = 2  # steps of a stream between two events, more of which are a gap


def _overall(overview: Overview) -> Floats:
    """(n,) skill over the horizons, each weighed by its labels; NaN where nothing is known."""
    skills = skill(overview.sums)  # (n, Z)
    labels = np.where(np.isnan(skills), 0.0, overview.sums[:, LABELS])
    many = labels.sum(1)
    overall: Floats = np.full(len(many), np.nan)
    np.divide((np.nan_to_num(skills) * labels).sum(1), many, out=overall, where=many > 0)
    return overall


# By what streams are sorted, least first; NaN comes last
SORTS: dict[str, Callable[[Overview], Floats]] = {
    "worst": _overall,
    "best": lambda overview: -_overall(overview),
    "newest": lambda overview: -overview.figures["seen"],
    "outside": lambda overview: -outside(overview.sums),
}


def listed(recent: RecentStreams, overview: Overview, sort: str, search: str, limit: int) -> Json:
    """Return the streams whose names have `search` in them, whatever the case, in order of `sort`, at most `limit`."""
    method = recent.method
    wanted = search.casefold()
    found = np.array([wanted in name.casefold() for name in overview.names], bool)
    order = np.argsort(SORTS[sort](overview), kind="stable")
    order = order[found[order]]
    overall = _rounded(_overall(overview))
    lasts = {i: recent.last_of(overview.partitions[i], overview.names[i]) for i in order[:limit].tolist()}
    shown = {i: last for i, last in lasts.items() if last is not None}  # another may have got its place meanwhile
    last = np.array([*shown.values()], published(method))
    times, mean = _target_times(last, method), significant(last["mean"])
    low, high = significant(last["quantiles"][..., 0]), significant(last["quantiles"][..., -1])
    places = [*shown]
    qualities = _qualities(overview.sums[places], method)
    outside_ = outside(overview.sums[places]).round(4).tolist()
    streams = [
        {
            "stream": overview.names[i],
            "partition": overview.partitions[i],
            "time": int(last["time_ms"][k]),
            "value": float(last["value"][k]),
            "events": int(overview.figures["events"][i]),
            "skill": overall[i],
            "outside": outside_[k],
            **qualities[k],
            "drops": _drops(overview.figures[i]),
            "forecast": {"times": times[k], "mean": mean[k], "low": low[k], "high": high[k]},
        }
        for k, i in enumerate(shown)
    ]
    bounds = {"levels": method.band_levels, "quantiles": [method.quantiles[0], method.quantiles[-1]]}
    return {
        "horizons": method.horizons,
        **bounds,
        "remembered": len(overview.names),
        "found": len(order),
        "streams": streams,
    }


def detailed(
    past: Past, partitions: list[int], method: Method, points: int, horizons: tuple[int, ...], said: Opinions | None
) -> Json:
    """Return one stream: its last `points` events, what was forecast of them `horizons` before, the last forecast."""
    known = past.points[-points - max(method.horizons) :]  # those of which the shown ones were forecast, too
    shown = known[-points:]
    value = shown["value"]
    low, high = shown["expected"][:, 1], shown["expected"][:, 2]  # as they are kept: less the value
    outside_ = _known((low > 0) | (high < 0), np.isnan(low))
    return {
        "stream": past.name,
        "partition": past.partition,
        "partitions": partitions,
        "horizons": method.horizons,
        "levels": method.band_levels,
        "events": int(past.figures["events"]),
        **_qualities(past.sums[None], method)[0],
        "drops": _drops(past.figures),
        "last_drops": _last_drops(past.drops),
        "times": shown["time_ms"].copy(),
        "values": value.copy(),
        "outside": outside_,
        "earlier": _earlier(known, method, points, horizons),
        "gaps": _gaps(known, points),
        "forecast": _forecast(past.last, method),
        "experts": None if said is None else _experts(said, method),
    }


def _qualities(sums: Floats, method: Method) -> list[Json]:
    """Return recent labels, skill and coverage by horizon of streams with these sums (n, HITS + bands, Z)."""
    horizons = [str(h) for h in method.horizons]
    return [
        {
            "labels": dict(zip(horizons, labels, strict=True)),
            "skills": dict(zip(horizons, skills, strict=True)),
            "coverage": dict(zip(horizons, covered, strict=True)),
        }
        for labels, skills, covered in zip(
            sums[:, LABELS].round(1).tolist(),
            _rounded(skill(sums)),
            _rounded(coverage(sums).swapaxes(1, 2)),
            strict=True,
        )
    ]


def _rounded(numbers: Floats) -> Any:
    """Return numbers with four decimals as lists; None stands where one is not known."""
    return _known(numbers.round(4), np.isnan(numbers))


def _known(array: Floats | Bools, unknown: Bools) -> Any:
    """Return an array as lists, with None where its numbers are unknown."""
    objects = array.astype(object)
    objects[unknown] = None
    return objects.tolist()


def _drops(figures: np.void) -> Json:
    return {reason: number for reason, number in zip(DROPS, figures["drops"].tolist(), strict=True) if number}


def _last_drops(drops: Records) -> list[Json]:
    return [
        {"time": time_ms, "reason": DROPS[verdict - 1], "value": None if np.isnan(value) else value}
        for time_ms, value, verdict in drops.tolist()
    ]


def _target_times(last: Records, method: Method) -> list[object]:
    """Return the times that forecasts are for, by the streams' own steps; None where a stream has none yet."""
    steps = last["step_ms"]
    times = last["time_ms"][:, None] + method.horizon_array * steps[:, None]
    return [row if step else None for row, step in zip(times, steps.tolist(), strict=True)]


def _forecast(last: np.void, method: Method) -> Json:
    """Return the last forecast with the numbers that were published."""
    [times] = _target_times(np.array([last]), method)
    quantiles = np.ascontiguousarray(significant(last["quantiles"]).T)
    return {
        "offset": int(last["offset"]),
        "time": int(last["time_ms"]),
        "value": float(last["value"]),
        "horizons": method.horizons,
        "times": times,
        "mean": significant(last["mean"]),
        "quantiles": dict(zip(map(repr, method.quantiles), quantiles, strict=True)),
    }


def _follows(points: Records) -> Bools:
    """(n,) whether the stream's event before each point is the point before it."""
    before = points["time_ms"] - points["elapsed_ms"]
    follows = np.zeros(len(points), bool)
    follows[1:] = (before[1:] == points["time_ms"][:-1]) & (points["elapsed_ms"][1:] >= 0)
    return follows


def _earlier(points: Records, method: Method, shown: int, horizons: tuple[int, ...]) -> Json:
    """Return by horizon what was forecast so many events before each of the last `shown`; null: not known."""
    breaks = (~_follows(points)).cumsum()
    n, inner = len(points), method.quantiles[1:-1]
    found: Json = {}
    for h in horizons:
        j = method.horizons.index(h)
        made = np.column_stack([points["mean"][:, j], points["quantiles"][:, j]])  # (n, 1 + Q)
        made = made + points["value"][:, None]
        curves = np.full((made.shape[1], n), np.nan)
        if n > h:
            known = breaks[h:] == breaks[:-h]
            curves[:, h:] = np.where(known, made[:-h].T, np.nan)
        mean, low, *between = significant(curves[:, -shown:])
        high = between.pop() if between else low
        found[str(h)] = {
            "mean": mean,
            "low": low,
            "high": high,
            "inner": dict(zip(map(repr, inner), between, strict=True)),
        }
    return found


def _gaps(points: Records, shown: int) -> list[Json]:
    """Return where a stream was silent for more than `GAP` of its steps, or spoke and its events are not remembered."""
    low = max(1, len(points) - shown)
    silent = np.zeros(len(points), bool)
    step = points["step_ms"][:-1]
    silent[1:] = (step > 0) & (points["elapsed_ms"][1:] > GAP * step)
    forgotten = ~_follows(points)
    times = points["time_ms"]
    return [
        {"from": int(times[i - 1]), "to": int(times[i]), "why": "not remembered" if forgotten[i] else "silent"}
        for i in range(low, len(points))
        if silent[i] or forgotten[i]
    ]


def _experts(said: Opinions, method: Method) -> Json:
    """Return by horizon what each expert of the mixture forecast at the last event, and what it weighs."""
    forecasts, weights = significant(said.forecasts), said.weights.round(4)
    return {
        str(h): {
            name: {"forecast": float(forecasts[j, e]), "weight": float(weights[j, e])}
            for e, name in enumerate(said.names)
        }
        for j, h in enumerate(method.horizons)
    }
