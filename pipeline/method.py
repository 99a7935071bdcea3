"""The settings that give a shard's state its meaning, and the constants that follow from them."""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import numpy as np

from pipeline.compiled import Floats, Ints

Cell = Literal["rnn_tanh", "rnn_relu", "gru", "lstm"]

VERSION = 2  # raised whenever the same events would give another state


@dataclass(frozen=True)
class Method:
    """What is forecast and how. Two shards with equal methods, weights and events are equal, bit for bit.

    `horizons` are in events of the stream, increasing. `quantiles` are increasing, symmetric about 0.5.
    `max_gap` is in the stream's own steps; `stream_ttl_ms` in record timestamps (None: streams stay for ever).
    `window` is how many events a fine-tune goes back through, a multiple of 8.
    """

    horizons: tuple[int, ...] = (1, 3, 6, 12, 24)
    quantiles: tuple[float, ...] = (0.025, 0.1, 0.5, 0.9, 0.975)
    cell: Cell = "gru"
    hidden_size: int = 32
    layers: int = 1
    covariates: tuple[str, ...] = ()
    transform: Literal["none", "log"] = "none"
    same_time: Literal["drop", "accept"] = "drop"
    max_gap: int = 100
    stream_ttl_ms: int | None = None
    window: int = 24

    @cached_property
    def horizon_array(self) -> Ints:
        """(Z,) horizons in events."""
        return np.array(self.horizons, np.int64)

    @cached_property
    def pending_start(self) -> Ints:
        """(Z + 1,) where each horizon's ring of pending forecasts begins; horizon h needs a ring of h."""
        return np.concatenate([[0], np.cumsum(self.horizon_array)]).astype(np.int64)

    @property
    def longest(self) -> int:
        """H, the longest horizon."""
        return self.horizons[-1]

    @property
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

    @property
    def bands(self) -> int:
        """Pairs of quantiles that make a central interval, widest first."""
        return len(self.quantiles) // 2

    @property
    def band_levels(self) -> tuple[float, ...]:
        """Coverage each pair aims at, e.g. (0.95, 0.8)."""
        return tuple(round(1 - 2 * q, 9) for q in self.quantiles[: self.bands])
