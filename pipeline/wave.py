"""One wave through the method: its parts in the order that is law, score, learn, look, forecast.

Each part is a module with its row fields and kernels, and its equations in the docstring; here is what goes from one
to the next. A move is a change from z in units of a horizon's scale c_h; a label is the move that came.
"""

from typing import NamedTuple

import numpy as np

from pipeline.arrays import Floats, Floats32, Ints, Rows
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.parts import (
    companion,
    covariates,
    features,
    intervals,
    linear,
    mixture,
    pending,
    regression,
    scales,
    season,
    shrink,
    spikes,
    stack,
    weekly,
)


def part_names(method: Method) -> tuple[str, ...]:
    """Parts whose own forecasts a shard can tell: the seasonal naive, the network, the linear expert, the stacking."""
    return ("seasonal", "network", "linear", "stack") if method.full else ("seasonal", "network")


def waves_of(turn: Ints) -> list[Ints]:
    """Places of the events of each wave, given the turns (n,) of events within their row."""
    if len(turn) <= 1 or not turn.any():
        return [np.arange(len(turn))] if len(turn) else []
    return np.split(np.argsort(turn, kind="stable"), np.cumsum(np.bincount(turn))[:-1])


class Ahead(NamedTuple):
    """Where the horizons and fractions of a wave's rows fall, and what the season has there."""

    naive: Floats  # (B, K)
    profile: Floats  # (B, K)
    slot: Ints  # (B, K)
    time_ms: Ints  # (B, K)


def regressions_of(method: Method, rows: Rows) -> list[regression.Expert]:
    """Fields of the linear experts there are."""
    names = [linear.NAME] * method.full + [companion.NAME] * method.has_companion
    return [regression.Expert.of(rows, name) for name in names]


class Wave:
    """Events that are stepped together, at most one per row."""

    def __init__(
        self, method: Method, rows: Rows, regressions: list[regression.Expert], index: Ints, raw: Floats, time_ms: Ints
    ) -> None:
        self.method, self.rows, self.regressions, self.index = method, rows, regressions, index
        self.n = rows["count"][index]
        self.raw, self.time_ms = raw, time_ms
        self.z = np.empty(len(index))  # what counts: the raw value, or the one before a spike that is held
        spikes.hold(rows, index, self.n, raw, self.z)

    def score(self, out: Forecasts) -> Floats:
        """Score what was said of these events; the labels (B, Z) they are."""
        m, rows, r, n = self.method, self.rows, self.index, self.n
        label = np.empty((len(r), len(m.horizons)))
        pending.score(
            rows, r, n, self.raw, self.z, m.horizon_array, m.pending_start, m.ring_unit(intervals.EDGE),
            label, out.error, out.naive, out.network_error, out.inside, out.expected,
        )  # fmt: skip
        return label

    def learn(self, label: Floats, elapsed_ms: Ints, step_ms: Ints, given: Floats) -> None:
        """Learn the parts of each row: from labels first, then from the values."""
        m, rows, r, n, z = self.method, self.rows, self.index, self.n, self.z
        waiting = (rows, r, n, label, m.horizon_array, m.pending_start)
        season.find_slot(rows, r, n, self.time_ms, elapsed_ms, step_ms, season.CODES[m.season])
        if m.full:
            for expert in self.regressions:
                regression.learn(r, n, label, m.horizon_array, *expert[1:], m.ring_unit(regression.BOUND))
            stack.learn(*waiting, m.ring_unit(stack.CLIP))
        shrink.learn(*waiting, m.root)
        mixture.learn(*waiting, m.root)
        intervals.learn(
            rows, r, n, z, m.horizon_array, m.pending_start, m.levels, m.interval_rates,
            intervals.factor_kept(m)[1],
        )  # fmt: skip
        season.learn(rows, r, n, z)
        if m.has_week:
            weekly.learn(rows, r, z, self.time_ms)
        scales.learn(rows, r, n, z, m.spans, m.season_slots)
        if m.has_companion:
            covariates.learn(rows, r, given)

    def look_ahead(self, step_ms: Ints) -> tuple[Ahead, Floats32]:
        """What the season says of the time ahead, and what the network sees, x (B, F)."""
        m, b = self.method, len(self.index)
        k = len(m.spans)
        ahead = Ahead(np.empty((b, k)), np.empty((b, k)), np.empty((b, k), np.int64), np.empty((b, k), np.int64))
        season.look_ahead(self.rows, self.index, self.z, self.time_ms, step_ms, m.spans, *ahead)
        x = np.empty((b, m.inputs), np.float32)
        features.build(
            self.rows, self.index, self.z, self.time_ms, ahead.naive, ahead.profile, m.fraction_places, x
        )  # fmt: skip
        return ahead, x

    def forecast(self, ahead: Ahead, x: Floats32, network: Floats32, out: Forecasts) -> None:
        """Bring the experts' moves together, the network's (B, Z) among them, and place the bands."""
        m, rows, r, n, z = self.method, self.rows, self.index, self.n, self.z
        b, h = len(r), len(m.horizons)
        waiting = (rows, r, n, m.horizon_array, m.pending_start)
        said = np.zeros((b, h, stack.columns(m)))
        season.move(rows, r, z, ahead.naive, ahead.profile, said[:, :, stack.SEASON : stack.NETWORK])
        said[:, :, stack.NETWORK] = network
        raw = np.empty((b, h, shrink.experts(m)))
        raw[:, :, 0] = network
        if m.full:
            if m.has_week:
                weekly.move(rows, r, z, ahead.time_ms, said[:, :, stack.MORE])
            self._regress(ahead, x, said)
            stack.forecast(*waiting, m.ring_unit(stack.CLIP), said, raw[:, :, 1])
        experts = np.zeros((b, h, mixture.experts(m)))
        experts[:, :, mixture.NAIVE : mixture.SHRUNK] = said[:, :, stack.SEASON : stack.SEASON + 2]
        shrink.forecast(*waiting, m.root, raw, experts[:, :, mixture.SHRUNK :])
        moves, width, edges = np.empty((b, h)), np.empty((b, h)), np.empty((b, h, len(m.quantiles)))
        mixture.forecast(*waiting, m.root, experts, moves)
        edge_unit = m.ring_unit(intervals.EDGE)
        intervals.forecast(
            rows, r, n, m.horizon_array, ahead.slot, intervals.factor_kept(m)[1], edge_unit, width, edges
        )  # fmt: skip
        pending.keep(*waiting[:3], z, *waiting[3:], edge_unit, network, moves, width, edges, out.mean, out.quantiles)
        if out.parts.shape[2]:
            stack.tell(rows, r, z, said, raw[:, :, -1], out.parts)

    def _regress(self, ahead: Ahead, x: Floats32, said: Floats) -> None:
        """Moves of the linear experts; both see the same, the companion the covariates too."""
        m, rows, r, n = self.method, self.rows, self.index, self.n
        own = linear.width(m)
        phi = np.empty((len(r), companion.width(m) if m.has_companion else own), np.float32)
        linear.regressors(rows, r, self.z, ahead.naive, ahead.profile, m.fraction_places, x, phi)
        if m.has_companion:
            companion.regressors(rows, r, phi)
        for expert, width, column in zip(self.regressions, (own, phi.shape[1]), (stack.LINEAR, -1), strict=False):
            seen = phi[:, :width]
            regression.take_in(
                r, n, seen, expert.factors, *expert[2:], m.ring_unit(regression.BOUND), m.gain_steps
            )  # fmt: skip
            regression.forecast(r, seen, expert.weights, said[:, :, column])
