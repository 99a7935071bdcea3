"""What the week's table tells of the very next event, where no day is like the one before."""

import numpy as np

from pipeline.method import Method
from pipeline.parts.experts import part_names
from pipeline.shard import Shard
from tests.rigs.shard_rigs import Record, fold, restless

METHOD = Method()
HOUR_MS, WEEK = 3_600_000, 168
MONDAY_MS = 1_700_438_400_000  # midnight, UTC


def test_the_linear_expert_knows_of_a_step_that_only_some_weekdays_have() -> None:
    """At nine on working days, from a level that wanders."""
    events, rng = 8 * WEEK, np.random.default_rng(4)
    hour = np.arange(events)
    opens = (hour % 24 == 9) & (hour // 24 % 7 < 5)
    closes = (hour % 24 == 17) & (hour // 24 % 7 < 5)
    values = np.cumsum(6.0 * opens - 6.0 * closes + 0.3 * rng.normal(size=events))
    log = [Record(i, "a", MONDAY_MS + HOUR_MS * i, 0, float(v)) for i, v in enumerate(values)]
    forecasts = fold(Shard(METHOD, restless(METHOD), 0, {}, parts=True), log)
    linear = forecasts.parts[:, 0, part_names(METHOD).index("linear")] - values  # the step that it expects
    before_nine = hour[-WEEK:][hour[-WEEK:] % 24 == 8]
    working, weekend = linear[before_nine[:5]], linear[before_nine[5:]]
    assert working.min() > 4.0, working
    assert abs(weekend).max() < 2.0, weekend


def test_within_one_slot_the_week_has_no_step() -> None:
    """Of two events in an hour only the second is followed by another slot."""
    log = [Record(i, "a", MONDAY_MS + HOUR_MS // 2 * i, 0, i // 2 % 24 + i % 5 / 9) for i in range(4 * WEEK)]
    shard = Shard(METHOD, restless(METHOD), 0, {})
    steps = []
    for record in log:
        fold(shard, [record])
        steps.append(float(shard.wave.stepped["week_step"][0]))
    assert steps[-WEEK::2] == [0.0] * (WEEK // 2)
    assert abs(np.array(steps[-WEEK + 1 :: 2])).min() > 0.5
