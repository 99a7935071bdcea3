"""Scores as people and programs read them: by stream and horizon, means over streams, the worst stream first."""

import math
from typing import Any

import numpy as np

from pipeline.arrays import Floats
from pipeline.backtest.tally import FORECAST, LAST, PARTS, SEASONAL, Tallies, Tally
from pipeline.method import Method
from pipeline.parts.experts import part_names

WHOLE = "forecast"  # what is published, among its parts
PLAIN = "seasonal"  # the seasonal naive: no part of the method, but what it must beat, as the last value
SLOTS = "season_slots"  # the expert of that name is the last value in the season's slot


def names_of(method: Method) -> list[str]:
    """Single parts of the method, by the names that scores have for them."""
    return [SLOTS if name == "seasonal" else name for name in part_names(method)]


def scores(tallies: Tallies, method: Method, without: Tallies | None = None) -> dict[str, Any]:
    """`streams` and `overall` as JSON has them; a horizon without labels is left out, a number that is none is null.

    `without` are those of the same method with a network that says nothing. Overall, skill is the mean over streams, so
    that no stream's units outweigh another's; coverage is over all labels.
    """
    streams = {
        name: {
            "events": tally.events,
            "outliers": tally.outliers,
            "horizons": {
                str(h): _horizon(tally, j, method, None if without is None else without[name])
                for j, h in enumerate(method.horizons)
                if tally.n[j] > 0
            },
        }
        for name, tally in tallies.items()
    }
    return {"streams": streams, "overall": _overall(tallies, method, without)}


def _horizon(tally: Tally, j: int, method: Method, without: Tally | None) -> dict[str, object]:
    n = tally.n[j]

    def errors(of: Tally, who: int) -> dict[str, float]:
        return {"mse": float(of.squared[j, who] / n), "mae": float(of.absolute[j, who] / n)}

    names = names_of(method)[: tally.squared.shape[1] - PARTS]
    parts = {name: errors(tally, PARTS + x) for x, name in enumerate(names)}
    if without is not None:
        parts["without_network"] = errors(without, FORECAST)
    return {
        "n": int(n),
        **errors(tally, FORECAST),
        "skill": _number(tally.skill[j]),
        "skill_seasonal": _number(tally.skills(SEASONAL)[j, FORECAST]),
        "last_value": errors(tally, LAST),
        PLAIN: errors(tally, SEASONAL),
        **({"experts": parts} if parts else {}),
        "coverage": _by_level(tally.coverage[j], method),
        "width": _by_level(tally.mean_width[j], method),
        "pinball": float(tally.pinball[j] / n),
    }


def _overall(tallies: Tallies, method: Method, without: Tallies | None) -> dict[str, object]:
    horizons: dict[str, object] = {}
    skills = mean_skills(tallies, method, without)
    beside = _mean(np.stack([t.skills(SEASONAL)[:, FORECAST] for t in tallies.values()]))
    inside = coverage(tallies)
    for j, h in enumerate(method.horizons):
        n = sum(t.n[j] for t in tallies.values())
        if n:
            skill = {name: _number(row[j]) for name, row in skills.items()}
            mine, plain = skill.pop(WHOLE), skill.pop(PLAIN)
            parts = {name: {"skill": s} for name, s in skill.items()}
            horizons[str(h)] = {
                "n": int(n), "skill": mine, "skill_seasonal": _number(beside[j]), PLAIN: {"skill": plain},
                **({"experts": parts} if parts else {}), "coverage": _by_level(inside[j], method),
            }  # fmt: skip
    return {
        "events": sum(t.events for t in tallies.values()),
        "outliers": sum(t.outliers for t in tallies.values()),
        "skill": _number(overall_skill(tallies)),
        "horizons": horizons,
    }


def worst_first(tallies: Tallies) -> list[str]:
    """The streams by mean skill over horizons; those without any come last."""

    def worth(name: str) -> float:
        skill = mean_of(tallies[name].skill)
        return math.inf if math.isnan(skill) else skill

    return sorted(tallies, key=worth)


def coverage(tallies: Tallies) -> Floats:
    """(Z, bands) share of all labels inside; NaN where there is none."""
    n = np.sum([tally.n for tally in tallies.values()], axis=0)
    inside: Floats = np.sum([tally.inside for tally in tallies.values()], axis=0)
    return inside / np.where(n > 0, n, np.nan)[:, None]


def overall_skill(tallies: Tallies) -> float:
    """The mean over streams of the mean over horizons of the forecast's skill; NaN where there is none."""
    return mean_of(np.array([mean_of(tally.skill) for tally in tallies.values()]))


def mean_skills(tallies: Tallies, method: Method, without: Tallies | None = None) -> dict[str, Floats]:
    """(Z,) mean over streams of the skill of the forecast, of its single parts, and of what it is without network."""
    names = {WHOLE: FORECAST, PLAIN: SEASONAL} | {name: PARTS + x for x, name in enumerate(names_of(method))}
    each = [tally.skills() for tally in tallies.values()]
    means = {name: _mean(np.stack([s[:, x] for s in each])) for name, x in names.items() if x < each[0].shape[1]}
    if without is not None:
        means["without_network"] = _mean(np.stack([t.skill for t in without.values()]))
    return means


def mean_of(skill: Floats) -> float:
    """The mean of those that are numbers; NaN where none is."""
    some = skill[~np.isnan(skill)]
    return float(some.mean()) if len(some) else math.nan


def _mean(skill: Floats) -> Floats:
    """(streams, Z) -> (Z,) over the streams that have one; NaN where none has."""
    return np.array([mean_of(column) for column in skill.T])


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _by_level(of: Floats, method: Method) -> dict[str, float]:
    return {str(level): float(c) for level, c in zip(method.band_levels, of, strict=True)}
