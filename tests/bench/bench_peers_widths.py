"""foldcast's quantiles of daily prices beside those of GARCH(1,1) and of an exponentially weighted variance.

Every event of a series from `--first` on is an origin. foldcast folds the whole file with the defaults, nothing else
is told. GARCH is that of `arch`, with normal errors and with Student's t, fitted anew every `--refit` events to all
events so far, and filtered in between (tests/bench/peers/volatility.py). The weighted variance is RiskMetrics': a decay
of .94, no mean, and the root of the horizon for changes further ahead; times the normal's quantiles, or times those of
all its standardised errors so far. `bound` is what nobody can use: the best of six GARCH fitted to the whole series,
one step ahead.

`pinball` is the mean loss of the quantiles .025, .1, .5, .9 and .975 by the last value's absolute error, a mean over
the series, and by foldcast's: below 1 is better than foldcast. `+-` is its standard error by the jackknife over ten
spans of time. `calm` and `wild` are the fifths of a series' origins with the lowest and highest weighted variance,
`jump` those within five events after a change of more than three of its deviations. CPU is that of a forecast of all
horizons.
"""

import time
from bisect import insort
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from bench_peers_accuracy import LEVELS, PEERS, Origins, answered, ours, pinball_losses
from histories import FAR
from markets import MARKETS
from report import Report, options

from pipeline.arrays import Floats

PYTHON = Path(__file__).parents[2] / ".cache/peers-volatility/bin/python"
HORIZONS = (1, 6, 24)
DECAY = 0.94
BEGIN = 20  # changes whose mean square the weighted variance begins with
JUMP, AFTER = 3, 5
SPANS = 10
NORMAL = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


class Made(NamedTuple):
    """A method's quantiles: by series (origins, horizons, levels), the first of the horizons alone or all of them."""

    quantiles: dict[str, Floats]
    cpu_s: float  # per forecast


# ---- the exponentially weighted variance


def deviations(values: Floats) -> Floats:
    """(T,) of the next change, as it is known at each event."""
    squares = np.diff(values) ** 2
    variance = squares[:BEGIN].mean()
    found = [variance]
    for square in squares:
        variance = DECAY * variance + (1 - DECAY) * square
        found.append(variance)
    return np.sqrt(found)


def quantiles_so_far(errors: Floats, known: Sequence[int]) -> Floats:
    """(origins, levels) of the first `known` errors, which grow in number."""
    ranked: list[float] = []
    found = []
    for count in known:
        for error in errors[len(ranked) : count]:
            insort(ranked, float(error))
        place = LEVELS * (len(ranked) - 1)
        low = place.astype(int)
        lower, upper = (np.array([ranked[min(k, len(ranked) - 1)] for k in at]) for at in (low, low + 1))
        found.append(lower + (place - low) * (upper - lower))
    return np.array(found)


def weighted(values: Floats, at: list[int]) -> dict[str, Floats]:
    """(origins, horizons, levels), with the normal's quantiles and with those of its errors."""
    deviation = deviations(values)
    made: dict[str, list[Floats]] = {"weighted variance, normal": [], "weighted variance, its errors": []}
    for h in HORIZONS:
        far = deviation * np.sqrt(h)
        errors = (values[h:] - values[:-h]) / far[:-h]
        shapes = (NORMAL, quantiles_so_far(errors, [origin + 1 - h for origin in at]))
        for method, shape in zip(made.values(), shapes, strict=True):
            method.append(values[at, None] + far[at, None] * shape)
    return {name: np.stack(each, 1) for name, each in made.items()}


def by_weighted_variance(origins: Origins) -> dict[str, Made]:
    """Both kinds; of CPU each has all."""
    began = time.process_time()
    each = {n: weighted(v, origins.at) for n, v in zip(origins.history.names, origins.history.values, strict=True)}
    cost = (time.process_time() - began) / len(each) / len(origins.at)
    methods = next(iter(each.values()))
    return {method: Made({name: both[method] for name, both in each.items()}, cost) for method in methods}


# ---- the others


def by_foldcast(origins: Origins) -> Made:
    """Its defaults, of which the horizons are some."""
    made, cpu_s = ours(origins)
    chosen = [origins.horizons.index(h) for h in HORIZONS]
    return Made({name: forecast[:, chosen, 1:] for name, forecast in made.items()}, cpu_s)


def by_garch(origins: Origins, refit: int) -> dict[str, Made]:
    """By method, from another virtual environment."""
    series = {n: v.tolist() for n, v in zip(origins.history.names, origins.history.values, strict=True)}
    asked = {"series": series, "origins": origins.at, "horizons": HORIZONS, "levels": LEVELS.tolist(), "refit": refit}
    found = answered(PYTHON, PEERS / "volatility.py", asked)
    return {method: Made(made, cost) for method, (made, cost) in found.items()}


# ---- the figures


def losses(origins: Origins, made: Made) -> tuple[Floats, Floats]:
    """Both (series, origins, horizons): pinball loss by the last value's mean absolute error, and a label's rank: the
    number of quantiles below it."""
    at, loss, rank = np.array(origins.at), [], []
    for name, values in zip(origins.history.names, origins.history.values, strict=True):
        quantiles = made.quantiles[name]
        label = values[at[:, None] + np.array(HORIZONS[: quantiles.shape[1]])]
        loss.append(pinball_losses(label, quantiles) / np.abs(label - values[at, None]).mean(0))
        rank.append((quantiles < label[..., None]).sum(-1))
    return np.array(loss), np.array(rank)


def ratio_and_error(loss: Floats, ours: Floats) -> tuple[float, float]:
    """Of the means of (series, origins), and the ratio's standard error: spans of origins are left out in turn."""
    n = loss.shape[1]
    spans = [np.arange(n) * SPANS // n != span for span in range(SPANS)]
    without = np.array([loss[:, rest].mean() / ours[:, rest].mean() for rest in spans])
    error = np.sqrt((SPANS - 1) * ((without - without.mean()) ** 2).mean())
    return float(loss.mean() / ours.mean()), float(error)


def times(origins: Origins) -> dict[str, np.ndarray]:
    """(series, origins) whether an origin is calm, wild, or soon after a jump."""
    deviation = np.array([deviations(values) for values in origins.history.values])
    steps = np.diff(origins.history.values, prepend=np.nan)
    jumps = np.zeros(deviation.shape, bool)
    jumps[:, 1:] = np.abs(steps[:, 1:]) > JUMP * deviation[:, :-1]
    lately = np.array([jumps[:, at + 1 - AFTER : at + 1].any(1) for at in origins.at]).T
    now = deviation[:, origins.at]
    edges = np.quantile(now, [0.2, 0.8], axis=1)[:, :, None]
    return {"calm": now <= edges[0], "wild": now >= edges[1], "jump": lately}


def figures(origins: Origins, made: Made, foldcast: Made) -> dict[str, float]:
    """A line of the table."""
    (loss, rank), (ours, _) = losses(origins, made), losses(origins, foldcast)
    found: dict[str, float] = {}
    for j, h in enumerate(HORIZONS[: loss.shape[2]]):
        ratio, error = ratio_and_error(loss[..., j], ours[..., j])
        found |= {f"pinball h={h}": float(loss[..., j].mean()), f"by foldcast h={h}": ratio, f"+- h={h}": error}
        found[f"inside 80 % h={h}"] = 100 * float(((rank[..., j] > 1) & (rank[..., j] < 4)).mean())
        found[f"inside 95 % h={h}"] = 100 * float(((rank[..., j] > 0) & (rank[..., j] < 5)).mean())
    for when, chosen in times(origins).items():
        found[f"by foldcast h=1, {when}"] = float(loss[chosen, 0].mean() / ours[chosen, 0].mean())
    found["series better h=1"] = float((loss[..., 0].mean(1) < ours[..., 0].mean(1)).sum())
    return found | ({"CPU ms": made.cpu_s * 1000} if made.cpu_s else {})


def compared(origins: Origins, refit: int) -> dict[str, dict[str, float]]:
    """The table of a set: by method, foldcast first."""
    foldcast = by_foldcast(origins)
    methods = {"foldcast": foldcast} | by_weighted_variance(origins) | by_garch(origins, refit)
    return {name: figures(origins, made, foldcast) for name, made in methods.items()}


def main(given: Sequence[str] | None = None) -> None:
    parser = options(__doc__, runs=1)
    parser.add_argument("sets", nargs="*", default=list(MARKETS), help=f"which (all: {', '.join(MARKETS)})")
    parser.add_argument("--first", type=int, default=500, help="event that is the first origin (%(default)s)")
    parser.add_argument("--refit", type=int, default=20, help="events from a fit to the next (%(default)s)")
    chosen = parser.parse_args(given)
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON} is not there: `make bench PEERS=1` installs the peers.")
    for name in chosen.sets:
        history = MARKETS[name]()
        at = list(range(chosen.first, len(history.values[0]) - max(HORIZONS)))
        origins = Origins(history, at, FAR, [])
        report = Report(f"{name}: {len(history.names)} series, {len(at):,} origins of each")
        for method, row in compared(origins, chosen.refit).items():
            report.add(method, row)
        report.show(chosen.json)


if __name__ == "__main__":
    main()
