"""The last hour: each sample is of its ten seconds, and says of partitions what is known of them."""

from math import nan

import numpy as np

from tests.rigs.clock import Clock
from tests.rigs.loop_rig import METHOD
from worker.observe.hour import BEHIND, EVERY_S, Behind, Hour
from worker.observe.metrics import Metrics


def sampled(clock: Clock, *partitions: Behind) -> dict[str, float]:
    """What one sample has of these partitions."""
    hour = Hour(Metrics(METHOD, "test"))
    clock.now += EVERY_S
    hour.after_cycle(dict(enumerate(partitions)))
    return {name: float(hour.samples[name][-1]) for name in BEHIND}


def test_partitions_are_summed_and_the_worst_is_told(clock: Clock) -> None:
    assert sampled(clock, Behind(5, 1.5, 30, 100), Behind(7, 0, 20, 300)) == {
        "lag": 12,
        "worst_lag": 7,
        "worst_lag_s": 1.5,
        "newest_image_s": 20,
        "oldest_image_s": 30,
        "worst_tail": 300,
    }


def test_what_is_not_known_of_one_hides_nothing_of_the_others(clock: Clock) -> None:
    sample = sampled(clock, Behind(nan, 60, nan, nan), Behind(7, nan, nan, 0))
    assert (sample["lag"], sample["worst_lag_s"], sample["worst_tail"]) == (7, 60, 0)
    assert np.isnan([sample["newest_image_s"], sample["oldest_image_s"]]).all()


def test_of_no_partition_nothing_is_known(clock: Clock) -> None:
    assert np.isnan([*sampled(clock).values()]).all()


def test_latency_and_updates_are_of_the_sample_and_not_since_the_start(clock: Clock) -> None:
    metrics = Metrics(METHOD, "test")
    hour = Hour(metrics)
    for latency_s, updates in ((0.9, 3), (0.004, 1)):
        metrics.latency.observe(np.full(10, latency_s))
        for _ in range(updates):
            metrics.updated(1.0, False, 0.1, 0.1)
        clock.now += EVERY_S
        hour.after_cycle({})
    assert hour.samples["latency"].tolist() == [[1.0, 1.0], [0.005, 0.005]]
    assert hour.samples["updates"].tolist() == [3, 1]
