"""A leak is told from noise, restarts and what a process takes until it has become what it is."""

import random
from collections.abc import Callable

import pytest

from tests.soak.samples import DESCRIPTORS, MEMORY, THREADS, Samples, quantile
from tests.soak.slopes import HOUR_S, Point, slope
from tests.soak.verdicts import Outcome, failed

EVERY_S = 5.0
SETTLE_S = 60.0


def run(leak: float, seed: int = 1, hours: float = 1.0, jump: float = 30.0) -> Samples:
    """Memory of a worker that is restarted every five minutes or so, each time with another level.

    `leak` is growth per hour as a share. A process takes its memory within its first minute; its noise stays a while.
    """
    rng, samples = random.Random(seed), Samples()
    level, since, until, pid, noise = 400.0, 0.0, 300.0, 1, 0.0
    for number in range(int(hours * HOUR_S / EVERY_S)):
        at_s = number * EVERY_S
        if at_s >= until:
            pid, since, until = pid + 1, at_s, at_s + rng.uniform(200, 500)
            level = 400 + jump * rng.uniform(-1, 1)
        noise = 0.8 * noise + rng.gauss(0, 0.3)
        start = 100 * max(1 - (at_s - since) / 45, 0)
        figure = level * (1 + leak * (at_s - since) / HOUR_S) - start + noise
        samples.add("one", pid, at_s, {MEMORY: figure, THREADS: 20.0})
    return samples


def verdict_on_memory(samples: Samples) -> bool:
    outcome = Outcome(rate=1, seconds=HOUR_S, partitions=1, settle_s=SETTLE_S, samples=samples)
    (found,) = [verdict for verdict in outcome.verdicts() if verdict.promise == f"{MEMORY} of one does not grow"]
    return found.kept


@pytest.mark.parametrize("seed", range(10))
def test_restarts_and_noise_are_no_leak(seed: int) -> None:
    assert verdict_on_memory(run(leak=0.0, seed=seed))


@pytest.mark.parametrize("seed", range(10))
def test_a_leak_is_found_in_whatever_restarts_leave_of_it(seed: int) -> None:
    assert not verdict_on_memory(run(leak=0.05, seed=seed))


def test_the_slope_is_that_of_the_segments_and_its_error_holds_most_of_them() -> None:
    within = 0
    for seed in range(40):
        found = slope(run(0.05, seed, jump=0.0).settled("one", MEMORY, SETTLE_S))
        assert found is not None
        within += abs(found.per_hour - 20) < 2 * found.error
    assert within >= 36


def test_levels_that_rise_from_process_to_process_are_no_slope() -> None:
    segments = [[Point(t, level) for t in range(100 * level, 100 * level + 50)] for level in range(5)]
    found = slope(segments)
    assert found is not None
    assert (found.per_hour, found.error, found.segments) == (0, 0, 5)


def test_memory_that_nobody_could_judge_is_no_memory_that_does_not_grow() -> None:
    assert not verdict_on_memory(run(0.0, hours=0.01))


@pytest.mark.parametrize(("threads", "kept"), [(lambda n: 20 + n // 360, False), (lambda n: 20 + n % 7 // 6, True)])
def test_threads_may_come_and_go_and_not_stay(threads: Callable[[int], int], kept: bool) -> None:
    samples = Samples()
    for number in range(720):
        samples.add("one", 1, number * EVERY_S, {THREADS: threads(number)})
    outcome = Outcome(rate=1, seconds=HOUR_S, partitions=1, settle_s=SETTLE_S, samples=samples)
    promise = f"{THREADS} of one does not grow"
    assert (promise not in [verdict.promise for verdict in failed(outcome.verdicts())]) == kept


def test_a_latency_is_read_off_a_histogram_within_its_bucket() -> None:
    counts = {0.1: 0.0, 0.2: 50.0, 0.4: 100.0, float("inf"): 100.0}
    assert quantile(counts, 0.5) == pytest.approx(0.2)
    assert quantile(counts, 0.75) == pytest.approx(0.3)
    assert quantile({0.1: 0.0, float("inf"): 4.0}, 0.5) == pytest.approx(0.1), "beyond the last bound"
    assert quantile({0.1: 0.0, float("inf"): 0.0}, 0.5) is None


@pytest.mark.parametrize("kept", [0, 1])
def test_connections_come_and_go_but_one_that_each_fault_leaves_is_found(kept: int) -> None:
    rng, samples, held = random.Random(kept), Samples(), 26
    for number in range(int(HOUR_S / EVERY_S)):
        passing = rng.choice((0, 0, 8, 14)) if number % 12 < 6 else 0  # after a fault, once a minute
        held += kept * (number % 12 == 6)
        samples.add("one", number // 120, number * EVERY_S, {DESCRIPTORS: held + passing})
        held = 26 if number % 120 == 119 else held  # a new process
    outcome = Outcome(rate=1, seconds=HOUR_S, partitions=1, settle_s=SETTLE_S, samples=samples)
    (found,) = [verdict for verdict in outcome.verdicts() if verdict.promise == f"{DESCRIPTORS} of one does not grow"]
    assert found.kept == (not kept), found.why
