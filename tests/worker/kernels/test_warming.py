"""What is compiled at set-up is all that events need."""

import numpy as np
import pytest

from pipeline.backtest.inline import InlineTrainer
from pipeline.compiled import compilations
from pipeline.shard import Shard
from worker.kernels.warming import warm
from worker.plan import Plan, schedule_of
from worker.settings.settings import Settings


@pytest.mark.parametrize("horizons", [(1,), (1, 5), (2, 4, 5, 7)])
def test_after_it_no_wave_of_any_size_compiles_a_kernel(horizons: tuple[int, ...]) -> None:
    """Few horizons make arrays whose layout numba takes for another one. No other test has these hidden sizes."""
    plan = Plan.of(
        Settings(model={"horizons": horizons, "hidden_size": 9 + len(horizons)}, events={"earliest": "1970-01-01"})
    )
    before, _ = warm(plan)
    assert before > 0
    shard = Shard(plan.method, plan.network(), 0, plan.settings, parts=True)
    trainer = InlineTrainer(shard, schedule_of(Settings()), every=20)
    at = 0
    for streams, waves in ((1, 1), (2, 1), (3, 1), (9, 1), (1, 1), (3, 2), (1, 90)):
        for turn in range(2):
            names = sorted([*range(streams)] * waves + [0])  # the first once more than the others: a wave of its own
            bodies = [
                b'{"stream": "s%d", "time": %d, "value": %d}' % (s, 60 * (at + i), (s + turn + i * i) % 7)
                for i, s in enumerate(names, 1)
            ]
            streams = len(bodies)
            batch, rejected = plan.decoder.decode(range(at, at + streams), [10**9] * streams, [None] * streams, bodies)
            assert not rejected
            shard.advance(batch)
            at += streams
            trainer.turn()
    assert trainer.counts["updates"] > 0
    assert np.isfinite(shard.table.rows["scale"][:9]).all()
    assert compilations()[0] == before
