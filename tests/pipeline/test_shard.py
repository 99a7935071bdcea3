"""A shard is a fold: cuts, waves, neighbours, the future, snapshots and restores change no bit of it."""

import gc
import math
import weakref
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.arrays import Floats32
from pipeline.durable.image import MARKER_KEY, read_image, weights_key
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.parts import scales
from pipeline.parts.features import times
from pipeline.records import fixed, layout
from pipeline.shard import Shard
from tests.rigs.methods import FINE, SMALL, TWO_LAYERS, WIND
from tests.rigs.shard_rigs import (
    SETTINGS,
    Record,
    batch_of,
    events_of,
    fold,
    make_log,
    restless,
    row_of,
    said,
    said_of,
    shard_of,
    state,
)

METHOD = replace(WIND, max_gap=20)
MORTAL = replace(METHOD, stream_ttl_ms=60_000)
METHODS = {
    "gru": METHOD,
    "lstm of two layers": replace(TWO_LAYERS, stream_ttl_ms=60_000),
    "tanh, all horizons": Method(cell="rnn_tanh", covariates=("wind",), max_gap=20),
    "relu, trades": replace(MORTAL, cell="rnn_relu", same_time="accept", covariates=()),
}
N = 400


@pytest.fixture(autouse=True, scope="module")
def _small_pages_and_frequent_sweeps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.table.PAGE_BYTES", 4 * max(layout(method).itemsize for method in METHODS.values()))
        patch.setattr("pipeline.shard.SWEEP_EVERY", 37)
        yield


LOGS = {name: make_log(1, N, method) for name, method in METHODS.items()}


def whole(name: str) -> tuple[Shard, dict[str, str]]:
    """The log in one batch, and what was said of it."""
    shard = shard_of(METHODS[name])
    return shard, said(fold(shard, LOGS[name]))


# ---- invariant 2: the fold does not depend on how the log was cut


@pytest.mark.parametrize("name", METHODS)
def test_a_log_taken_in_one_by_one_gives_the_bits_of_one_batch(name: str) -> None:
    once, forecasts = whole(name)
    shard = shard_of(METHODS[name])
    assert said(fold(shard, LOGS[name], range(N))) == forecasts
    assert state(shard) == state(once)
    assert once.table.pages >= 2


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_wave_taken_in_pieces_gives_the_bits_of_one_piece(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def folded() -> tuple[dict[str, str], dict[str, object], int]:
        shard = Shard(METHOD, restless(METHOD), 0, SETTINGS, parts=True)
        forecasts = fold(shard, LOGS["gru"], [100])
        return said(forecasts), state(shard), int(np.bincount(forecasts.turn).max())

    whole = folded()
    assert whole[-1] > 2 * at_once, "there are waves of more"
    monkeypatch.setattr("pipeline.wave.AT_ONCE", at_once)
    assert folded() == whole


@pytest.mark.parametrize("method", [METHOD, Method(profile="lite", transform="log")], ids=["full", "lite log"])
def test_every_number_of_a_forecast_is_put_there(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was in its memory, in waves of one event and of many."""
    log = [record._replace(value=math.exp(record.value / 10)) for record in make_log(1, N, method)]
    room = Forecasts.blank

    def folded(dirt: int) -> tuple[dict[str, str], dict[str, object]]:
        def blank(n: int, method: Method, parts: int = 0) -> Forecasts:
            forecasts = room(n, method, parts)
            forecasts.events.view(np.uint8).fill(dirt)
            forecasts.parts.fill(dirt)
            return forecasts

        monkeypatch.setattr(Forecasts, "blank", blank)
        shard = Shard(method, restless(method), 0, SETTINGS, parts=True)
        shard.wave._events.view(np.uint8).fill(dirt)
        return said(fold(shard, log, [1, 2, 3, *range(10, N, 60)])), state(shard)

    assert folded(0) == folded(99)


@pytest.mark.parametrize("at", [0, 1, 5, 18, 25])
def test_a_mad_value_among_the_first_is_forgotten_once_wherever_the_log_is_cut(at: int) -> None:
    """The stream then says what it would have said had it begun after it; another mad value is only a spike."""
    method = METHODS["gru"]
    values = np.cumsum(np.random.default_rng(5).normal(size=60)) + 20
    values[at] = -9999
    log = [Record(i, "a", 60_000 * (i + 1), 0, float(v), (1.0,)) for i, v in enumerate(values)]
    shard, others = shard_of(method), [shard_of(method) for _ in range(2)]
    forecasts = fold(shard, log)
    for other, cuts in zip(others, (range(60), [at + 1, at + 2, at + 3]), strict=True):
        assert said(fold(other, log, cuts)) == said(forecasts)
        assert state(other) == state(shard)
    row = shard.table.rows[0]
    if at > 18:
        assert (row["begun_anew"], row["count"]) == (0, 60), "too late: it is clipped"
        return
    begin = at + 2  # the second value after it shows what it was
    assert (row["begun_anew"], row["count"]) == (1, 60 - begin)
    late = shard_of(method)
    fold(late, log[begin:])
    for name in ("values", "step2", "slot_apart", "linear_weights", "mixture_regret", "hidden"):
        kept, fresh = row[name], late.table.rows[0][name]
        np.testing.assert_allclose(kept, fresh, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["gru", "lstm of two layers"])
def test_cuts_anywhere_change_no_bit(name: str) -> None:
    once, forecasts = whole(name)
    expected = state(once)

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(1, N - 1), max_size=30))
    def check(cuts: list[int]) -> None:
        shard = shard_of(METHODS[name])
        assert said(fold(shard, LOGS[name], cuts)) == forecasts
        assert state(shard) == expected

    check()


def test_the_network_and_removal_matter_in_these_logs() -> None:
    """Else the tests above would prove nothing."""
    shard = shard_of(MORTAL)
    forecasts = fold(shard, make_log(1, N, MORTAL))
    assert np.abs(forecasts.mean - forecasts.value[:, None])[50:].max() > 0.1
    assert len(set(forecasts.born)) < len(forecasts.born), "a stream came back after its removal"
    assert shard.table.names.count(None) > 0
    assert len(shard.table.names) < len(set(forecasts.name)), "rows were used again"
    counters = shard.counters
    assert min(counters.late, counters.duplicate, counters.missing, counters.dead) > 3


def test_a_record_stamped_far_ahead_misleads_one_sweep_and_not_all_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steady streams are forgotten once at most, an idle one as ever, whatever is restored on the way."""
    monkeypatch.setattr("pipeline.shard.SWEEP_EVERY", 20)
    at = 1_700_000_000_000
    log = [Record(i, f"s{i % 4}", at + i * 1000, at + i * 1000, float(i % 7), (0.0,)) for i in range(200)]
    log[50] = log[50]._replace(name="odd", time_ms=at + 10**9, record_ms=at + 10**9)
    log[62] = log[62]._replace(name="idle")
    world, born = World(MORTAL, log), list[list[str]]()
    for cut in range(0, 200, 10):
        born.append(world.shard.advance(batch_of(log[cut : cut + 10], MORTAL)).born)
        if cut in (50, 60, 100):
            world.snapshot()
            world.crash()
    assert [cut * 10 for cut, names in enumerate(born) if names] == [0, 50, 60], "at offset 60 they begin anew"
    assert sorted(name for name in world.shard.table.names if name) == ["odd", "s0", "s1", "s2", "s3"]


# ---- invariant 4: a row knows its own stream's events and the weights, nothing else


def shuffled(log: list[Record], seed: int) -> list[Record]:
    """Another interleaving: each stream's own order is kept, offsets are dealt anew."""
    order = np.random.default_rng(seed).permutation([r.name or "" for r in log]).tolist()
    queues: dict[str, list[Record]] = {}
    for record in reversed(log):
        queues.setdefault(record.name or "", []).append(record)
    return [queues[name].pop()._replace(offset=i) for i, name in enumerate(order)]


@pytest.mark.parametrize("name", ["gru", "tanh, all horizons"])
def test_other_interleavings_and_wave_sizes_change_no_row(name: str) -> None:
    shard, _ = whole(name)
    forecasts = fold(shard_of(METHODS[name]), LOGS[name])
    for seed in range(4):
        other = shard_of(METHODS[name])
        others = fold(other, shuffled(LOGS[name], seed), range(0, N, [400, 40, 9, 3][seed]))
        for stream in shard.table.index:
            assert row_of(other, stream, "watch_origin") == row_of(shard, stream, "watch_origin"), stream
            assert said_of(others, stream) == said_of(forecasts, stream), stream


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 10_000), st.integers(0, 39), st.floats(-1e9, 1e9), st.booleans())
def test_other_streams_events_change_no_bit_of_a_row(seed: int, which: int, size: float, alone: bool) -> None:
    mine = f"s{which}"
    log, noise = LOGS["gru"], np.random.default_rng(seed)
    mute = noise.random(40) < 0.5
    changed = []
    for record in log:
        if record.name is not None and record.name != mine:
            if alone or mute[int(record.name[1:])]:
                continue
            record = record._replace(value=size * noise.normal(), time_ms=record.time_ms + int(noise.integers(0, 9000)))
        changed.append(record)
    one, other = shard_of(METHOD), shard_of(METHOD)
    forecasts, others = fold(one, log), fold(other, changed, [200])
    assert said_of(others, mine) == said_of(forecasts, mine)
    assert row_of(other, mine) == row_of(one, mine)


# ---- invariant 5: nothing later


@settings(max_examples=12, deadline=None)
@given(st.integers(1, N - 1), st.integers(2, 10_000))
def test_later_events_change_no_earlier_forecast_even_in_one_batch(until: int, seed: int) -> None:
    log = LOGS["gru"]
    later = [
        r._replace(value=v, time_ms=r.time_ms + 1)
        for r, v in zip(log[until:], np.random.default_rng(seed).normal(0, 1e6, N - until).tolist(), strict=True)
    ]
    forecasts = fold(shard_of(METHOD), log)
    others = fold(shard_of(METHOD), log[:until] + later)
    early = int((forecasts.offset < log[until].offset).sum())
    assert said(others, slice(early)) == said(forecasts, slice(early))


def test_an_event_is_scored_before_anything_learns_from_it_and_then_learnt_once() -> None:
    """Errors are of the forecasts made h events ago, in the scales as they were; so are bands and `expected`."""
    method, values = SMALL, np.cumsum(np.random.default_rng(7).normal(size=60))
    shard, twin, said_before = shard_of(method), np.zeros(1, layout(method)), []
    for n, z in enumerate(values.tolist()):
        units = twin["scale"][0].copy()
        one = shard.advance(batch_of([Record(n, "a", 1000 * n, 0, z)], method))
        for j, h in enumerate(method.horizons):
            if n - h + 1 <= 20:
                assert np.isnan(one.error[0, j])
                continue
            mean, quantiles = said_before[n - h]
            assert one.error[0, j] == (z - mean[j]) / units[j]
            assert one.naive[0, j] == (z - values[n - h]) / units[j]
            inside = [quantiles[j, k] <= z <= quantiles[j, -1 - k] for k in range(method.bands)]
            assert one.inside[0, j].tolist() == inside
        if n > 1:
            mean, quantiles = said_before[n - 1]
            assert one.expected[0].tolist() == [mean[0], quantiles[0, 0], quantiles[0, -1]]
        said_before.append((one.mean[0], one.quantiles[0]))
        scales.learn(twin, events_of(method, n=n, z=z), fixed(method))
        assert shard.table.rows[0]["scale"].tolist() == twin["scale"][0].tolist()


# ---- invariant 6: nothing is lost


@pytest.mark.parametrize("name", METHODS)
def test_every_record_is_counted_once(name: str) -> None:
    shard, log = shard_of(METHODS[name]), LOGS[name]
    forecasts, counters = fold(shard, log, [100, 101, 250]), shard.counters
    assert (
        counters.records
        == N
        == counters.forecasts + counters.late + counters.duplicate + (counters.missing + counters.dead)
    )
    assert counters.forecasts == len(forecasts.name) == len(forecasts.offset)
    assert counters.dead == sum(r.name is None for r in log)
    assert counters.missing == sum(r.name is not None and np.isnan(r.value) for r in log)
    assert np.bincount(forecasts.verdict, minlength=4).tolist() == [
        counters.forecasts,
        counters.late,
        counters.duplicate,
        counters.missing,
    ]
    assert (np.diff(forecasts.offset) > 0).all()


def test_a_batch_without_events_moves_the_position() -> None:
    shard = shard_of(METHOD)
    missing = Record(5, "never seen", 0, 0, np.nan, (np.nan,))
    forecasts = fold(shard, [missing, Record(7, None, 0, 0, 0.0)])
    assert (len(forecasts.name), shard.position, len(shard.table.names)) == (0, 8, 0)
    assert (shard.counters.records, shard.counters.missing, shard.counters.dead) == (2, 1, 1)


def test_a_gap_of_more_than_max_gap_steps_forgets_the_hidden_state_only() -> None:
    first = [Record(i, "a", 1000 * i, 0, float(i % 7)) for i in range(30)]
    near, far = (Record(30, "a", 29_000 + gap, 0, 3.0) for gap in (20_000, 20_001))
    method = replace(FINE, max_gap=20)  # so that what the network saw can be read to the bit
    shards = [shard_of(method) for _ in range(2)]
    fold(shards[0], [*first, near])
    fold(shards[1], [*first, far])
    a, b = (shard.table.rows[0] for shard in shards)
    assert a["step_scale"] == b["step_scale"]
    assert a["quantile"].tobytes() == b["quantile"].tobytes()
    hidden = restless(METHOD).step(*_inputs(b))[1]
    assert b["hidden"].tobytes() == hidden[0].tobytes(), "one step from zero"
    assert a["hidden"].tobytes() != b["hidden"].tobytes()


def _inputs(row: np.void) -> tuple[Floats32, Floats32]:
    """What the network saw of the row's last event, and a hidden state of zero."""
    seen = row["window_inputs"]
    own, time = seen[(row["count"] - 1) % len(seen)], times(row["time_ms"])
    x = np.zeros((1, METHOD.inputs), np.float32)
    x[0, : len(own) + len(time)] = [*own, *time]
    return x, np.zeros((1, METHOD.layers, 1, METHOD.hidden_size), np.float32)


# ---- snapshots and restores


class World:
    """A shard, its log and its changelog; a crash leaves only the changelog."""

    def __init__(self, method: Method, log: list[Record]) -> None:
        self.method, self.log = method, log
        self.changelog: list[tuple[bytes, bytes | None]] = [(weights_key(0), restless(method).dump())]
        self.shard = shard_of(method)

    def advance(self, records: int) -> None:
        at = bisect_left(self.log, self.shard.position, key=lambda r: r.offset)
        if part := self.log[at : at + records]:
            self.shard.advance(batch_of(part, self.method))

    def begin(self) -> None:
        self.shard.begin_snapshot()

    def send(self, pages: int) -> bool:
        if self.shard.pages_to_send is None:
            return False
        records, last = self.shard.snapshot_pieces(pages)
        self.changelog += records
        return last

    def snapshot(self) -> None:
        self.begin()
        while not self.send(1):
            pass

    def crash(self) -> None:
        self.shard = restored(self.method, self.changelog)

    def finish(self) -> dict[str, object]:
        self.advance(len(self.log))
        return state(self.shard)


def restored(method: Method, changelog: list[tuple[bytes, bytes | None]]) -> Shard:
    """From the changelog alone."""
    image = read_image(changelog)
    network = restless(method, seed=99)
    network.load(image.weights[0])
    shard = Shard(method, network, 0, SETTINGS)
    if image.marker is not None:
        shard.load(image.marker, image.pages)
    return shard


# mostly what a life is made of, so that snapshots get somewhere before they are given up
ADVANCES = [("advance", n) for n in (1, 4, 9, 17)]
SENDS = [("send", n) for n in (1, 1, 2, 3)]
ACTIONS = st.lists(st.sampled_from([*ADVANCES, *SENDS, ("begin",), ("crash",)]), min_size=40, max_size=80)


@pytest.mark.parametrize("name", ["gru", "lstm of two layers"])
def test_snapshots_and_crashes_at_any_time_change_no_bit(name: str) -> None:
    """Begun, half sent, given up and begun again, restored, in any order: the end is the uninterrupted fold's."""
    expected = state(whole(name)[0])

    @settings(max_examples=40, deadline=None)
    @given(ACTIONS)
    def check(actions: list[tuple[str, int] | tuple[str]]) -> None:
        world = World(METHODS[name], LOGS[name])
        for action, *number in actions:
            getattr(world, action)(*number)
        if world.shard.pages_to_send is None:
            world.begin()
        while not world.send(1):
            world.advance(3)
        world.crash()
        assert world.finish() == expected

    check()


@pytest.mark.parametrize("name", ["lstm of two layers", "relu, trades"])
def test_a_snapshot_sent_page_by_page_while_rows_grow_and_go_is_the_shard_at_one_offset(name: str) -> None:
    expected = state(whole(name)[0])
    world = World(METHODS[name], LOGS[name])
    world.advance(60)
    for _ in range(6):
        world.begin()
        at_begin, pages = state(world.shard), world.shard.pages_to_send
        assert pages is not None
        while not world.send(1):
            world.advance(11)
        shard = restored(world.method, world.changelog)
        assert state(shard) == at_begin
    assert shard.table.pages >= 2
    assert None in shard.table.names
    assert state(world.shard) != at_begin
    world.crash()
    assert world.finish() == expected


def test_an_image_is_loaded_into_as_much_room_as_it_takes() -> None:
    world = World(SMALL, [Record(n, f"s{n}", 1000, 0, 1.0) for n in range(100)])
    world.advance(100)
    world.snapshot()
    world.crash()
    table = world.shard.table
    assert len(table.rows) == table.pages * table.page_rows
    assert table.pages > 2


def test_a_half_sent_snapshot_is_invisible_and_can_be_begun_again() -> None:
    world = World(MORTAL, LOGS["gru"])
    world.advance(150)
    world.snapshot()
    first = state(restored(MORTAL, world.changelog))
    for _ in range(3):
        world.advance(70)
        world.begin()
        assert not world.send(1)
        assert state(restored(MORTAL, world.changelog)) == first
    while not world.send(1):
        pass
    assert state(restored(MORTAL, world.changelog)) == state(world.shard)


def test_pages_of_a_snapshot_given_up_are_in_the_next_though_nothing_touched_them() -> None:
    world = World(MORTAL, LOGS["gru"])
    world.advance(150)
    for _ in range(3):
        world.begin()
        assert not world.send(1)
    while not world.send(1):
        pass
    assert state(restored(MORTAL, world.changelog)) == state(world.shard)


def test_a_restore_from_any_prefix_of_the_changelog_ends_the_same() -> None:
    world = World(MORTAL, LOGS["gru"])
    while world.shard.position <= LOGS["gru"][-1].offset:
        world.advance(45)
        if world.shard.pages_to_send is None:
            world.begin()
        world.send(2)
    expected = state(world.shard)
    assert [key for key, _ in world.changelog].count(MARKER_KEY) >= 3
    for end in range(1, len(world.changelog) + 1):
        other = World(MORTAL, LOGS["gru"])
        other.shard = restored(MORTAL, world.changelog[:end])
        assert other.finish() == expected


@pytest.mark.parametrize("name", METHODS)
def test_every_page_that_changes_is_marked_before_it_does(name: str) -> None:
    """By whatever a batch does to rows: kernels, new streams, removals, new beginnings."""
    shard, changes = shard_of(METHODS[name]), 0
    table = shard.table
    known: list[tuple[list[str | None], bytes]] = []

    def pages() -> list[tuple[list[str | None], bytes]]:
        each = (table.page_slice(page) for page in range(table.pages))
        return [(table.names[rows], table.rows[rows].tobytes()) for rows in each]

    def note(some: set[int], _read: object) -> None:
        assert all(pages()[page] == known[page] for page in some - marked if page < len(known))
        marked.update(some)

    table.before_change = note
    for at in range(0, N, 3):
        known, marked = pages(), set[int]()
        table.dirty.clear()
        shard.advance(batch_of(LOGS[name][at : at + 3], METHODS[name]))
        now = pages()
        changed = {page for page in range(len(now)) if page >= len(known) or now[page] != known[page]}
        assert changed <= table.dirty
        assert marked == table.dirty
        changes += len(changed)
    assert changes > N / 4


@pytest.mark.parametrize("under_way", [False, True])
def test_a_shard_that_is_let_go_leaves_its_memory_at_once(under_way: bool) -> None:
    """Not when Python next looks for what refers to itself: a worker has it look rarely, and a table is large."""
    gc.collect()
    gc.disable()
    try:
        shard = shard_of(METHOD)
        shard.advance(batch_of(LOGS["gru"][:-9], METHOD))
        pages = shard.begin_snapshot()
        assert pages > 2
        assert shard.snapshot_pieces(2 if under_way else pages)[1] is not under_way
        shard.advance(batch_of(LOGS["gru"][-9:], METHOD))
        parts = (shard, shard.table, shard.network, shard.table.rows)
        left = [weakref.ref(part) for part in parts]
        del shard, parts
        assert [ref() for ref in left] == [None] * 4
    finally:
        gc.enable()


def test_a_snapshot_holds_changed_pages_only() -> None:
    world = World(METHOD, make_log(2, 300, METHOD))
    world.advance(299)
    world.snapshot()
    assert world.shard.table.pages > 2
    assert world.shard.replay_tail == 0
    world.advance(1)
    assert world.shard.begin_snapshot() <= 1
    assert world.send(1)
    assert state(restored(METHOD, world.changelog)) == state(world.shard)
    assert world.shard.begin_snapshot() == 0
    assert world.send(1)
    assert state(restored(METHOD, world.changelog)) == state(world.shard)
