"""The settings that give a shard's state its meaning, and the constants that follow from them."""

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import numpy as np

from pipeline.arrays import Floats, Ints

Cell = Literal["rnn_tanh", "rnn_relu", "gru", "lstm"]

Season = Literal["auto", "day", "week", "events", "none"]

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}  # weights of a cell by those of a plain one

LOOKS = (1, 3, 6, 12, 24)  # so many events ahead the network sees the season, whatever the horizons: weights fit any
OWN_INPUTS, TIME_INPUTS = 5, 6  # what it sees of an event beside that
assert (OWN_INPUTS + len(LOOKS) + TIME_INPUTS) % 4 == 0, "else a row's bits in torch's cells may differ"

VERSION = 15  # raised whenever the same events would give another state


@dataclass(frozen=True)
class Method:
    """What is forecast and how. Two shards with equal methods, weights and events are equal, bit for bit.

    `horizons` are in events of the stream, increasing. `quantiles` are increasing, symmetric about 0.5.
    `max_gap` is in the stream's own steps; `stream_ttl_ms` in record timestamps (None: streams stay for ever).
    `window` is how many events a fine-tune goes back through, a multiple of 8.
    `floor` is in the value's units: nothing is published below it for a stream that never was.
    `fine_rings` keeps what waits for labels, and windows, in float32 instead of fewer bits, to measure what that costs.
    """

    horizons: tuple[int, ...] = (1, 3, 6, 12, 24)
    quantiles: tuple[float, ...] = (0.025, 0.1, 0.5, 0.9, 0.975)
    cell: Cell = "gru"
    hidden_size: int = 32
    layers: int = 1
    profile: Literal["full", "lite"] = "full"
    season: Season = "auto"
    season_slots: int = 24
    weekly: Literal["on", "off"] = "on"
    covariates: tuple[str, ...] = ()
    transform: Literal["none", "log"] = "none"
    same_time: Literal["drop", "accept"] = "drop"
    max_gap: int = 100
    stream_ttl_ms: int | None = None
    window: int = 24
    floor: float = 0.0
    fine_rings: bool = False

    @cached_property
    def horizon_array(self) -> Ints:
        """(Z,) horizons in events."""
        return np.array(self.horizons, np.int64)

    @cached_property
    def pending_start(self) -> Ints:
        """(Z + 1,) where each horizon's ring of pending forecasts begins; horizon h needs a ring of h."""
        return np.concatenate([[0], np.cumsum(self.horizon_array)]).astype(np.int64)

    @cached_property
    def full(self) -> bool:
        """Whether the linear experts and their stacking take part."""
        return self.profile == "full"

    @cached_property
    def least(self) -> float:
        """The floor as transformed values have it; no logarithm is below that of 0."""
        if self.transform == "log":
            return math.log(self.floor) if self.floor > 0 else -math.inf
        return self.floor

    @cached_property
    def has_week(self) -> bool:
        """Whether there is a weekly table beside the season's; stacking and linear experts read it."""
        return self.full and self.weekly == "on"

    @cached_property
    def has_companion(self) -> bool:
        """Whether there is a second linear expert, which sees the covariates."""
        return self.full and len(self.covariates) > 0

    @cached_property
    def fractions(self) -> tuple[int, ...]:
        """Where in the season ahead the linear experts look: fractions of the longest horizon, of 24 if it is less."""
        farthest = max(self.longest, LOOKS[-1])
        return tuple(sorted({farthest // part for part in (1, 2, 4, 8)} | {1}))

    @cached_property
    def inputs(self) -> int:
        """F, inputs of the network."""
        return OWN_INPUTS + len(LOOKS) + TIME_INPUTS

    @cached_property
    def weights(self) -> int:
        """Numbers that the network learns: of its layers and of the head."""
        size, seen = self.hidden_size, self.inputs
        below = seen + size * (self.layers - 1)
        return GATES[self.cell] * size * (below + self.layers * (size + 2)) + (size + 1) * len(self.horizons)

    @cached_property
    def spans(self) -> Ints:
        """Horizons in their order, then what else is looked at ahead: what has a scale and a seasonal value."""
        return np.array([*self.horizons, *sorted({*self.fractions, *LOOKS} - {*self.horizons})], np.int64)

    @cached_property
    def fraction_places(self) -> Ints:
        """Where in `spans` each fraction is; the first is 1."""
        return np.array([self.spans.tolist().index(k) for k in self.fractions], np.int64)

    @cached_property
    def look_places(self) -> Ints:
        """Where in `spans` each of LOOKS is; the first is 1."""
        return np.array([self.spans.tolist().index(k) for k in LOOKS], np.int64)

    @cached_property
    def ring(self) -> str:
        """Type of numbers that wait in rings and are known to be small."""
        return "f4" if self.fine_rings else "i2"

    def ring_unit(self, bound: float) -> float:
        """Numbers up to `bound` are kept times this, rounded."""
        return 32_000 / bound * (4096 if self.fine_rings else 1)

    @cached_property
    def root_ring(self) -> str:
        """Type of bounded moves that wait as signed square roots, so that small ones keep their digits in few bits."""
        return "f4" if self.fine_rings else "i2" if self.full else "i1"

    @cached_property
    def root(self) -> float:
        """The number by which their bound is written."""
        return 32_000.0 * 4096 if self.fine_rings else 32_000.0 if self.full else 127.0

    @cached_property
    def gain_steps(self) -> float:
        """A regression's gain waits as so many parts of the largest of its event."""
        return 32_000.0 * (4096 if self.fine_rings else 1)

    @cached_property
    def interval_rates(self) -> Floats:
        """(Q,) how far each tracked quantile moves per label, larger where labels are rare: 0.0013 / density."""
        density = np.exp(-(self.normal_quantiles**2) / 2) / np.sqrt(2 * np.pi)
        return np.asarray(0.0013 / density, np.float64)

    @cached_property
    def longest(self) -> int:
        """H, the longest horizon."""
        return self.horizons[-1]

    @cached_property
    def pending_size(self) -> int:
        """Forecasts of one stream that wait for their label."""
        return sum(self.horizons)

    @cached_property
    def levels(self) -> Floats:
        """(Q,) quantile levels."""
        return np.array(self.quantiles, np.float64)

    @cached_property
    def normal_quantiles(self) -> Floats:
        """(Q,) quantiles of the standard normal at `levels`."""
        return np.array([NormalDist().inv_cdf(q) for q in self.quantiles], np.float64)

    @cached_property
    def bands(self) -> int:
        """Pairs of quantiles that make a central interval, widest first."""
        return len(self.quantiles) // 2

    @cached_property
    def band_levels(self) -> tuple[float, ...]:
        """Coverage each pair aims at, e.g. (0.95, 0.8)."""
        return tuple(round(1 - 2 * q, 9) for q in self.quantiles[: self.bands])
