"""The watchdog's sums are plain ones over the log, and what it says decides which weights are in service."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from pipeline.learning import watchdog
from pipeline.learning.adoption import GOOD_EVERY, Adoption, WeightsHeld, roll_back
from pipeline.learning.fine_tune import Optimiser
from pipeline.learning.watchdog import EPOCH, FORGIVEN, LABELS, LAST_VALUE, NETWORK
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.records import layout, published
from pipeline.shard import Shard
from tests.rigs.methods import LATER, SMALL
from tests.rigs.shard_rigs import Record, fold, make_log, restless, shard_of

METHOD = SMALL


class Seen(NamedTuple):
    """An accepted event."""

    stream: int
    offset: int
    error: float
    naive: float


def plain(events: Sequence[Seen]) -> tuple[float, float, int, int]:
    """Both losses, labels in them, streams active at the end: an epoch is a set of streams."""
    now, before = set[int](), set[int]()
    network = last_value = 0.0
    labels = active = began = 0
    for e in events:
        if e.offset - began >= max(10_000, 2 * len(now)):
            now, before, began = set(), now, e.offset
        now.add(e.stream)
        active = max(len(now), len(before))
        if np.isnan(e.error):
            continue
        share = 1 / (200 * active)
        network = (1 - share) * network + share * min(abs(e.error), 4) ** 2
        last_value = (1 - share) * last_value + share * min(abs(e.naive), 4) ** 2
        labels += 1
    return network, last_value, labels, active


def watched(events: Sequence[Seen], cuts: Sequence[int] = ()) -> np.ndarray:
    rows, state = np.zeros(40, layout(METHOD)), watchdog.blank()
    for part in np.split(np.arange(len(events)), list(cuts)):
        some = [events[i] for i in part]
        watchdog.watch(rows, records_of(METHOD, some), state)
    return state


def records_of(method: Method, events: Sequence[Seen]) -> np.ndarray:
    """As a shard hands them over."""
    made = np.zeros(len(events), published(method))
    for name, field in (("row", "stream"), ("offset", "offset"), ("network_error", "error")):
        made[name] = [getattr(e, field) for e in events]
    made["naive"][:, 0] = [e.naive for e in events]
    return made


def events_of(n: int, seed: int = 1, start: int = 0, step: int = 60) -> list[Seen]:
    """Over several epochs: streams that come, go and come back, wild errors and events without a label."""
    rng = np.random.default_rng(seed)
    found, offset = [], start
    for i in range(n):
        offset += int(rng.integers(1, step))
        low = 20 * (i // (n // 5) % 2)
        error = np.nan if rng.random() < 0.2 else 3 * rng.normal()
        found.append(Seen(int(rng.integers(low, low + 5 + 15 * (i < n // 2))), offset, error, 2 * rng.normal()))
    return found


@pytest.mark.parametrize(("start", "step"), [(0, 60), (9_990, 10), (123_456_789, 300), (0, 9_000)])
def test_losses_and_active_streams_are_what_a_plain_list_says(start: int, step: int) -> None:
    events = events_of(1500, start=start, step=step)
    for n in (1, 2, 17, 300, 900, 1500):
        state = watched(events[:n])
        network, last_value, labels, active = plain(events[:n])
        assert state[[NETWORK, LAST_VALUE]].tolist() == pytest.approx([network, last_value], rel=1e-9)
        assert (state[LABELS], watchdog.active(state)) == (labels, active)
    assert (events[-1].offset - start) // EPOCH > 2 or step == 10


def test_a_stream_counts_as_active_in_the_epoch_it_speaks_in_and_the_next() -> None:
    def speak(streams: Sequence[int], epoch: int) -> list[Seen]:
        return [Seen(s, EPOCH * epoch + i, np.nan, np.nan) for i, s in enumerate(streams)]

    log: list[Seen] = []
    counted = [watchdog.active(watched([]))]
    for streams, epoch in ((range(12), 0), ([1, 1, 2], 1), ([1, 2, 2, 3], 2), ([1], 3), ([5, 6], 9), ([5], 11)):
        log += speak(list(streams), epoch)
        counted.append(watchdog.active(watched(log)))
    assert counted == [1, 12, 12, 3, 3, 2, 2]


def test_other_cuts_change_no_bit_of_the_sums() -> None:
    events = events_of(600)
    once = watched(events).tobytes()
    for cuts in (range(1, 600), [1, 2, 300], [599]):
        assert watched(events, list(cuts)).tobytes() == once


def lively(method: Method) -> list[Record]:
    return make_log(5, 900, method, streams=9, active=6)


@pytest.mark.parametrize("method", [METHOD, LATER])
def test_a_shard_watches_what_its_forecasts_said_whatever_the_cuts(method: Method) -> None:
    """The network's own errors at its first horizon, event by event, and no other."""
    log, shards = lively(method), [shard_of(method) for _ in range(3)]
    said = fold(shards[0], log)
    for shard, cuts in zip(shards[1:], (range(900), [5, 77, 500]), strict=True):
        fold(shard, log, cuts)
    names = sorted(set(said.name))
    events = [
        Seen(names.index(name), offset, error, naive)
        for name, offset, error, naive in zip(
            said.name, said.offset.tolist(), said.network_error.tolist(), said.naive[:, 0].tolist(), strict=True
        )
    ]
    network, last_value, labels, active = plain(events)
    assert labels > 200
    assert network != last_value
    assert shards[0].watch[[NETWORK, LAST_VALUE]].tolist() == pytest.approx([network, last_value], rel=1e-9)
    assert (shards[0].watch[LABELS], watchdog.active(shards[0].watch)) == (labels, active)
    assert {shard.watch.tobytes() for shard in shards} == {shards[0].watch.tobytes()}


# ---- the verdict


def lockstep(rounds: int, error: float, naive: float, streams: int = 4, first: int = 0) -> list[Seen]:
    return [Seen(s, first + streams * i + s, error, naive) for i in range(rounds) for s in range(streams)]


def test_the_network_is_bad_when_worse_by_more_than_five_percent_and_not_before_its_patience() -> None:
    bad = [watchdog.is_bad(watched(lockstep(rounds, 1.5, 1.0))) for rounds in (1, 50, 99, 100, 300)]
    assert bad == [False, False, False, True, True]
    partly = watched([*lockstep(99, 1.5, 1.0), *lockstep(1, 1.5, 1.0, streams=3, first=396)])
    assert partly[LABELS] == 399
    assert not watchdog.is_bad(partly), "one label of one stream is missing"
    assert not watchdog.is_bad(watched(lockstep(300, 1.02, 1.0))), "2 % are 4 % of a squared error"
    assert watchdog.is_bad(watched(lockstep(300, 1.03, 1.0)))
    assert not watchdog.is_bad(watched(lockstep(300, 1.0, 1.0)))


def test_the_network_is_good_when_better_at_all_and_not_before_its_patience() -> None:
    good = [watchdog.is_good(watched(lockstep(rounds, 0.999, 1.0))) for rounds in (1, 99, 100, 300)]
    assert good == [False, False, True, True]
    assert not watchdog.is_good(watched(lockstep(300, 1.0, 1.0)))
    assert not watchdog.is_good(watched(lockstep(300, 1.01, 1.0)))


def test_events_without_a_label_do_not_count_as_patience() -> None:
    assert not watchdog.is_bad(watched([*lockstep(300, np.nan, np.nan), *lockstep(99, 9.0, 1.0, first=1200)]))


def test_errors_are_clipped_so_that_one_spike_says_little() -> None:
    wild, tame = (watched([*lockstep(200, 1.0, 1.0), Seen(0, 800, size, size)]) for size in (-1e9, 4.0))
    assert wild.tobytes() == tame.tobytes()
    assert wild[NETWORK] == pytest.approx(1 + (16 - 1) / 800, rel=0.5)


# ---- after a roll-back


@pytest.mark.parametrize("first_horizon", [1, 3])
def test_after_a_roll_back_labels_of_older_forecasts_are_left_out_and_later_ones_are_not(first_horizon: int) -> None:
    """Streams in step: the next labels of each, as many as the horizon has events, are of forecasts made before."""
    before = lockstep(200, 2.0, 1.0)
    method = replace(METHOD, horizons=(first_horizon, 8))
    rows, state = np.zeros(4, layout(method)), watchdog.blank()

    def take(events: Sequence[Seen]) -> None:
        watchdog.watch(rows, records_of(method, events), state)

    take(before)
    assert watchdog.is_bad(state)
    watchdog.forgive(state, before[-1].offset + 1)
    assert not watchdog.is_bad(state)
    assert state[NETWORK] == state[LAST_VALUE]
    kept, first = state[[NETWORK, LAST_VALUE, LABELS]].tolist(), 800
    take(lockstep(first_horizon, 4.0, 0.1, first=first))
    assert state[[NETWORK, LAST_VALUE, LABELS]].tolist() == kept, "as if they had not been"
    take(lockstep(1, 0.5, 1.0, first=first + 200))
    assert state[LABELS] == kept[2] + 4, "and from then on each counts"
    assert state[NETWORK] < state[LAST_VALUE]


def test_a_shard_that_is_given_older_weights_begins_to_watch_anew() -> None:
    log = lively(METHOD)
    shard, other = shard_of(METHOD), shard_of(METHOD)
    for s, rolled_back in ((shard, True), (other, False)):
        fold(s, log[:600])
        s.watch[NETWORK] += 1
        s.adopt(Network(Shape.of(METHOD)).weights, s.position, rolled_back)
    assert shard.watch[NETWORK] == shard.watch[LAST_VALUE]
    assert shard.watch[FORGIVEN] == shard.position
    assert (other.watch[NETWORK] > other.watch[LAST_VALUE], other.watch[FORGIVEN]) == (True, 0)


def test_a_shard_of_very_many_streams_counts_them_all() -> None:
    """An epoch lasts for two events of each stream at least."""
    rows, state, n = np.zeros(30_000, layout(METHOD)), watchdog.blank(), 30_000
    for turn in range(3):
        events = np.zeros(n, published(METHOD))
        events["row"], events["offset"], events["network_error"] = np.arange(n), np.arange(n) + turn * n, np.nan
        watchdog.watch(rows, events, state)
        assert watchdog.active(state) == n


def an(updates: int, factor: float = 1.0, seed: int = 0) -> Adoption:
    """An adoption with weights and moments of its own."""
    weights = dict(restless(METHOD, 100 + seed + updates).weights)
    state = np.ones((3, sum(weight.size for weight in weights.values())), np.float32)
    return Adoption(weights, Optimiser(state, 3, updates, factor), trained_through=updates)


def test_a_roll_back_halves_the_rate_down_to_a_64th_and_forgets_the_moments() -> None:
    good, adoption, factors = an(7), an(500), []
    for position in range(8):
        adoption = roll_back(adoption, good, position)
        factors.append(adoption.optimiser.factor)
        assert adoption.rolled_back
        assert adoption.weights is good.weights
        assert (adoption.optimiser.steps, adoption.optimiser.updates) == (0, 500)
        assert adoption.optimiser.state is None
        assert adoption.trained_through == position
    assert factors == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 64, 1 / 64]


def test_a_roll_back_keeps_two_chains_and_judges_them_anew() -> None:
    bad = replace(an(500), optimiser=Optimiser(np.ones((5, 7), np.float32), 3, 500, 1.0, (20.0, 0.1, 0.2, 0.3, 0.4)))
    assert roll_back(bad, an(7), 1).optimiser == Optimiser.blank(500, 0.5, two_chains=True)


BETTER, SAME, WORSE = (watched(lockstep(300, error, 1.0)) for error in (0.5, 1.0, 2.0))
YOUNG = watched(lockstep(20, 0.5, 1.0))


def standing(updates: int) -> WeightsHeld:
    base = an(0)
    return WeightsHeld(an(updates), base, base)


def test_without_a_candidate_nothing_comes_into_service_unless_the_network_is_bad() -> None:
    for watch in (BETTER, SAME, YOUNG):
        s = standing(100)
        before = s.in_service
        assert s.next_in_service(None, watch, 5) is None
        assert s.in_service is before
        assert s.good is s.base
    after = standing(100).next_in_service(None, WORSE, 5)
    assert after is not None
    assert after.rolled_back


def test_weights_that_did_well_for_32_updates_are_those_to_go_back_to() -> None:
    """Those that were in service while it did well, and not the candidate, of which nothing is known."""
    assert GOOD_EVERY == 32
    s = standing(0)
    seen: dict[int, Adoption] = {}
    for n in range(1, 101):
        candidate = an(n)
        assert s.next_in_service(candidate, BETTER, n) is candidate is s.in_service
        seen[n] = candidate
        expected = s.base if n <= 32 else seen[(n - 1) // 32 * 32]
        assert s.good is expected, n


@pytest.mark.parametrize("watch", [SAME, YOUNG], ids=["no better", "young"])
def test_weights_that_did_not_do_well_are_none_to_go_back_to(watch: np.ndarray) -> None:
    s = standing(100)
    assert s.next_in_service(an(101), watch, 5) is not None
    assert s.good is s.base


def test_the_first_roll_back_goes_to_the_good_weights_and_a_second_one_to_the_base() -> None:
    s = standing(40)
    good = s.in_service
    s.next_in_service(an(41), BETTER, 1)
    assert s.good is good
    first = s.next_in_service(an(42), WORSE, 2)
    assert first is s.in_service
    assert first is not None
    assert first.weights is good.weights
    assert (first.optimiser.factor, first.optimiser.updates, first.trained_through) == (0.5, 41, 2)
    s.next_in_service(an(42, 0.5, seed=9), SAME, 3)
    second = s.next_in_service(an(43, 0.5), WORSE, 4)
    assert second is not None
    assert second.weights is s.base.weights
    assert (second.optimiser.factor, second.optimiser.updates) == (0.25, 42)
    third = s.next_in_service(None, WORSE, 5)
    assert third is not None
    assert third.weights is s.base.weights


def test_what_is_rolled_back_to_fits_the_shard_it_came_from() -> None:
    shard: Shard = shard_of(METHOD)
    fold(shard, lively(METHOD)[:300])
    base = Adoption.base(shard.network, shard.position)
    digest = shard.network.digest()
    shard.adopt(an(3).weights, shard.position, False)
    assert shard.network.digest() != digest
    fold(shard, lively(METHOD)[300:310])
    after = roll_back(an(3), base, shard.position)
    shard.adopt(after.weights, shard.position, after.rolled_back)
    assert shard.network.digest() == digest
    assert np.array_equal(shard.network.weights["head.bias"], base.weights["head.bias"])
