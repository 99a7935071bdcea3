"""A stream's scores as they would be without its outliers: folded once more, by the method without its network."""

import numpy as np

from pipeline.arrays import Floats, Ints
from pipeline.backtest.backtest import BATCH
from pipeline.backtest.scoring import History, Scoring
from pipeline.backtest.tally import Tally
from pipeline.batch import Batch
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard
from worker.backtest.diagnosis import ordinary


def without_outliers(seen: History, method: Method, rows: tuple[int, int | None]) -> Tally:
    """Return the scores of forecasts made at event indices `rows` of the history, covariates left aside."""
    kept = ordinary(seen.value)
    first, last = (None if row is None else int(kept[:row].sum()) for row in rows)
    shard = Shard(method, Network(Shape.of(method)), 0, {})  # a new network forecasts no change
    scoring = Scoring(method, first or 0, last)
    time_ms, value = seen.time_ms[kept], seen.value[kept]
    for low in range(0, len(value), BATCH):
        part = slice(low, low + BATCH)
        scoring.take(shard.advance(_batch(low, time_ms[part], value[part], len(method.covariates))))
    return scoring.tallies.get("", Tally.blank(method, 0))


def _batch(low: int, time_ms: Ints, value: Floats, covariates: int) -> Batch:
    """Return events of one stream, the first of which has the offset `low`."""
    n = len(value)
    absent = np.full((n, covariates), np.nan)
    return Batch(
        np.arange(low, low + n), [""] * n, time_ms, time_ms, value, absent, n, low + n, np.zeros(n, np.int64)
    )  # fmt: skip
