"""Series that are there as arrays, folded as a shard folds a log: what they give to learn from."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.batch import Batch
from pipeline.corpus.clock import Series
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.pretraining.sequences import Collector, Sequences
from pipeline.shard import Shard


def folded(series: Sequence[Series], method: Method, held_out: float, done: Callable[[int], object] = int) -> Sequences:
    """Fold series side by side, each a stream; `held_out` as `Collector.sequences` has it, `done` is told of events.

    Values stand for what `events.transform` makes of them, and have no covariates beside them.
    """
    method = replace(method, transform="none", covariates=(), stream_ttl_ms=None)
    shard, collector = Shard(method, Network(Shape.of(method)), 0, {}), Collector(method)
    shard.wave.then(collector)
    for n in range(max((len(one.time_ms) for one in series), default=0)):
        there = [k for k, one in enumerate(series) if n < len(one.time_ms)]
        many, begin = len(there), shard.position
        time_ms = np.array([series[k].time_ms[n] for k in there], np.int64)
        value = np.array([series[k].value[n] for k in there], np.float64)
        offset, drop = np.arange(begin, begin + many), np.zeros(many, np.int64)
        names = [str(k) for k in there]
        shard.advance(Batch(offset, names, time_ms, time_ms, value, np.zeros((many, 0)), many, begin + many, drop))
        done(many)
    return collector.sequences(held_out)
