"""What a row keeps for learning is what a plain list of its events says, and a sample is cut out of that."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from pipeline.learning import windows
from pipeline.learning.windows import SAVE_EVERY, Windows
from pipeline.method import Cell, Method
from pipeline.parts.features import WIDTH
from pipeline.records import fixed, layout, published
from pipeline.shard import Shard
from pipeline.table import Table
from pipeline.wave import Wave
from tests.rigs.methods import FINE, LATER, LONG_LSTM, ONE, SMALL
from tests.rigs.shard_rigs import Record, events_of, fold, make_log, restless, shard_of

METHODS = {
    "one horizon": ONE,
    "lstm": replace(FINE, cell="lstm", window=16),
    "two layers, not from 1 on": LATER,
    "lstm of two layers, as long as it gets": LONG_LSTM,
}
FIRST_MS, STEP_MS = 1_700_000_000_000, 1000
GAP_MS = 500 * STEP_MS  # longer than max_gap steps


class Told(NamedTuple):
    """One event of a stream as the reference has it."""

    z: float
    scale: np.ndarray  # (Z,) c_h at it
    x: np.ndarray  # (F,)
    before: np.ndarray  # (L, S, H)
    after: np.ndarray
    change: np.ndarray  # (Z,)


def log_of(values: dict[str, Sequence[float]], gaps: Sequence[int] = ()) -> list[Record]:
    """Streams in turn, one event a second each; before the events of these indices there is a long gap."""
    log: list[Record] = []
    for n in range(max(map(len, values.values()))):
        time_ms = FIRST_MS + STEP_MS * n + GAP_MS * sum(g <= n for g in gaps)
        for name, own in values.items():
            if n < len(own):
                log.append(Record(len(log), name, time_ms, time_ms, float(own[n])))
    return log


def walk(n: int, seed: int = 1) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=n))


def told(log: Sequence[Record], name: str, gaps: Sequence[int], method: Method) -> list[Told]:
    """Event by event: scales, inputs and steps of one stream that is alone in the world."""
    network, table, of_it = restless(method), Table(method), np.zeros(1, published(method))
    wave, rows = Wave(method, table, network), table.changing(np.array([table.add(name)]))
    hidden = np.zeros_like(rows["hidden"][:1])
    events: list[Told] = []
    mine = [r for r in log if r.name == name]
    for n, record in enumerate(mine):
        of_it["time_ms"], of_it["raw"] = record.time_ms, record.value
        of_it["elapsed_ms"] = record.time_ms - mine[n - 1].time_ms if n else -1
        wave.forecast(rows, of_it, np.array([0]), np.empty((1, 0, 0)))
        x, z = wave._events["x"][:1].copy(), float(wave._events["z"][0])
        if n in gaps:
            hidden = np.zeros_like(hidden)
        change, after = network.step(x, hidden)
        events.append(Told(z, rows["scale"][0].copy(), x[0], hidden[0], after[0], change[0]))
        hidden = after
    return events


def label_of(events: Sequence[Told], e: int, j: int, h: int) -> float:
    """What event e is taught of horizon h by what has arrived."""
    if e + h >= len(events) or events[e].scale[j] == 0:
        return math.nan
    y = (events[e + h].z - events[e].z) / events[e].scale[j]
    return max(-8.0, min(8.0, y)) if abs(y) <= 50 else math.nan


def labels_of(events: Sequence[Told], e: int, method: Method) -> list[float]:
    return [label_of(events, e, j, h) for j, h in enumerate(method.horizons)]


def kept(method: Method) -> int:
    """R: 24 + 24 + 8 with the horizons as they are by default."""
    return method.window + math.ceil(method.longest / 8) * 8 + 8


def close(a: object, b: object) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-5)


# ---- what a row keeps


@pytest.mark.parametrize("name", METHODS)
def test_a_row_keeps_what_a_plain_list_says_of_its_last_events(name: str) -> None:
    method, size, n, gaps = METHODS[name], kept(METHODS[name]), 150, (30, 101)
    values = walk(n)
    values[60:] += 15  # a step that stays
    values[[75, 120]] += 5000  # and spikes
    log = log_of({"a": values}, gaps)
    events, shard = told(log, "a", gaps, method), shard_of(method)
    seen = set()
    for count, record in enumerate(log, 1):
        fold(shard, [record])
        row, so_far = shard.table.rows[0], events[:count]
        assert row["window_labels"].shape == (size, len(method.horizons))
        assert row["window_from"] == max([0, *(g for g in gaps if g < count)])
        for e in range(max(0, count - size), count):
            assert row["window_inputs"][e % size].tobytes() == events[e].x[:WIDTH].tobytes(), e
            assert row["window_time"][e % size] == log[e].time_ms % (7 * 86_400_000)
        if count % 7 == 0:
            for e in range(max(0, count - size), count):
                expected = np.array(labels_of(so_far, e, method), np.float32)
                np.testing.assert_allclose(row["window_labels"][e % size], expected, rtol=1e-6, err_msg=f"{e}")
                seen |= {"capped" for y in expected if abs(y) == 8} | {"masked" for y in expected[:-1] if math.isnan(y)}
        saved = [e for e in range(count) if e % 8 == 0][-size // 8 :]
        for e in saved:
            assert row["window_hidden"][e // 8 % (size // 8)].tobytes() == events[e].before.tobytes(), e
    assert "capped" in seen
    assert not events[101].before.any(), "an event after a gap begins anew"
    assert np.abs(events[104].before).max() > 0.01


def test_an_arrived_label_is_masked_where_the_jump_is_too_large_or_nothing_has_moved() -> None:
    values = walk(60)
    values[40:] += 1e6  # believed at 41
    shard = shard_of(FINE)
    fold(shard, log_of({"jumps": values, "still": np.full(60, 3.0)}))
    jumps, still = (shard.table.rows["window_labels"][shard.table.index[name]] for name in ("jumps", "still"))
    size = kept(FINE)
    assert np.isnan(jumps[40 % size, 0])
    assert np.isnan(jumps[38 % size, 1])
    assert not np.isnan(jumps[37 % size]).any()
    assert not np.isfinite(still).any(), "a scale of zero"


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (0.0, 0.0), (-7.5, -7.5), (8.5, 8.0), (-9.0, -8.0), (50.0, 8.0), (-50.0, -8.0),
        (50.01, math.nan), (-51.0, math.nan), (1e36, math.nan), (math.inf, math.nan), (-math.inf, math.nan),
        (math.nan, math.nan),
    ],
)  # fmt: skip
def test_a_label_is_capped_at_8_scales_and_masked_beyond_50(y: float, expected: float) -> None:
    rows = np.zeros(1, layout(FINE))
    rows["window_labels"][:] = math.nan
    far = (2 + 4 * y) / 2
    windows.label(rows, events_of(FINE, n=6, label=[y, far]), fixed(FINE))
    assert rows["window_labels"][0, 5, 0] == pytest.approx(expected, nan_ok=True)
    wanted = min(8.0, max(-8.0, far)) if abs(far) <= 50 else math.nan
    assert rows["window_labels"][0, 3, 1] == pytest.approx(wanted, nan_ok=True)
    assert np.isfinite(rows["window_labels"]).sum() <= 2, "no other place is touched"


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "rnn_relu"])
def test_eight_bits_keep_the_first_digit_or_two(cell: Cell) -> None:
    """To half a step of a signed square root, and the time to ten seconds; an unbounded hidden state as it is."""
    fine = replace(FINE, cell=cell)
    values = walk(80)
    values[70] += 1e6  # a jump, whose label is masked
    samples = []
    for method in (fine, replace(fine, fine_rings=False)):
        shard = shard_of(method)
        fold(shard, log_of({"a": values, "b": -values}))
        samples.append(shard.windows(9))
    exact, kept_short = samples
    assert exact is not None
    assert kept_short is not None
    own, bounded = WIDTH, cell in ("gru", "rnn_tanh")
    assert [part.dtype for part in kept_short] == [np.float32] * 3 + [np.int64]
    pairs = ((exact.inputs[..., :own], kept_short.inputs[..., :own], 6.0), (exact.labels, kept_short.labels, 8.0))
    for a, b, bound in pairs:
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        half_step = np.sqrt(np.abs(a) * bound) / 127 + bound / 254**2 + 1e-6
        assert (np.abs(b - a) <= half_step)[~np.isnan(a)].all()
    np.testing.assert_allclose(kept_short.inputs[..., own:], exact.inputs[..., own:], atol=3 * 2 * np.pi * 10 / 86_400)
    np.testing.assert_allclose(kept_short.hidden, exact.hidden, atol=0.5 / 127 + 1e-6 if bounded else 0)
    assert np.isnan(exact.labels).any()
    assert np.abs(exact.hidden).max() > 0.1
    row = layout(replace(fine, fine_rings=False))
    assert (row["window_inputs"].base, row["window_labels"].base) == (np.int8, np.int8)
    assert row["window_hidden"].base == (np.int8 if bounded else np.float32)
    assert layout(replace(SMALL, cell="lstm"))["window_hidden"].base == np.float32


# ---- samples


def wanted(events: Sequence[Told], gaps: Sequence[int], method: Method) -> list[int]:
    """Where the windows of a stream begin: the newest one, and the one whose labels have all arrived."""
    newest = len(events) // 8 * 8 - method.window
    unbroken = max([0, *(g for g in gaps if g < len(events))])
    starts = [newest, newest - math.ceil(method.longest / 8) * 8]
    return [start for start in starts if start >= unbroken]


def found(sample: Windows, streams: dict[str, list[Told]]) -> list[tuple[str, int]]:
    """Stream and first event of each window, by the bits of its first two inputs."""
    window = len(sample.inputs)
    first = {
        events[e].x.tobytes() + events[e + 1].x.tobytes(): (name, e)
        for name, events in streams.items()
        for e in range(len(events) - window + 1)
    }
    pairs = (sample.inputs[0, b].tobytes() + sample.inputs[1, b].tobytes() for b in range(sample.inputs.shape[1]))
    return [first[pair] for pair in pairs]


def rig(method: Method, count: int, gaps: Sequence[int] = (), streams: int = 6) -> tuple[Shard, dict[str, list[Told]]]:
    """A shard after `count` events of some streams, a few more of some than of others, and what is known of them."""
    values = {f"s{s}": walk(count + 3 * s, seed=s) for s in range(streams)}
    log, shard = log_of(values, gaps), shard_of(method)
    fold(shard, log, range(0, len(log), 41))
    return shard, {name: told(log, name, gaps, method) for name in values}


def in_any_order(sample: Windows) -> list[bytes]:
    columns = range(sample.inputs.shape[1])
    return sorted(b"".join((sample.inputs[:, b].tobytes(), sample.labels[:, b].tobytes(), sample.hidden[b].tobytes()))
                  for b in columns)  # fmt: skip


@pytest.mark.parametrize("gaps", [(), (70,)])
@pytest.mark.parametrize("name", METHODS)
def test_a_sample_is_the_newest_window_and_the_one_whose_labels_have_all_come(name: str, gaps: tuple[int, ...]) -> None:
    """Inputs, labels and hidden state of the same events; nothing that begins before a gap."""
    method, full = METHODS[name], 0
    for count in (75, 82, 95, 121):
        shard, streams = rig(method, count, gaps)
        expected = [(s, start) for s, events in streams.items() for start in wanted(events, gaps, method)]
        sample = shard.windows(99)
        if not expected:
            assert sample is None
            continue
        assert sample is not None
        places = found(sample, streams)
        assert sorted(places) == sorted(expected)
        for b, (s, start) in enumerate(places):
            events = streams[s]
            assert sample.hidden[b].tobytes() == events[start].before.tobytes()
            for t in range(method.window):
                assert sample.inputs[t, b].tobytes() == events[start + t].x.tobytes()
                close(sample.labels[t, b], labels_of(events, start + t, method))
            if start != len(events) // 8 * 8 - method.window:
                full += 1
                assert not np.isnan(sample.labels[:, b]).any()
    assert full > 0


@pytest.mark.parametrize("name", METHODS)
def test_replaying_a_window_from_its_saved_state_ends_where_step_did(name: str) -> None:
    """In multiples of 8 events, the newest window ends at the row's own hidden state."""
    method = METHODS[name]
    shard, streams = rig(method, 96, streams=9)
    sample = shard.windows(99)
    assert sample is not None
    change, _, _ = shard.network.vjp(sample.inputs, sample.hidden)
    hidden = sample.hidden
    for x in sample.inputs:
        _, hidden = shard.network.step(x, hidden)
    rows = 0
    for b, (s, start) in enumerate(found(sample, streams)):
        events = streams[s][start : start + method.window]
        close(hidden[b], events[-1].after)
        close(change[:, b], [event.change for event in events])
        if start + method.window == len(streams[s]):
            rows += 1
            close(hidden[b], shard.table.rows["hidden"][shard.table.index[s]])
    assert rows == 2, "s0 and s8 have 96 and 120 events"
    assert np.ptp(change, axis=0).min() > 0.01, "the network says something"


def test_a_sample_has_both_windows_of_at_most_so_many_streams() -> None:
    shard, streams = rig(FINE, 60, streams=12)
    whole = shard.windows(12)
    assert whole is not None
    assert whole.inputs.shape[1] == 24
    assert all(array.flags.c_contiguous for array in whole), "a kernel is compiled anew for what lies otherwise"
    for most in (1, 5, 11):
        sample = shard.windows(most)
        assert sample is not None
        places = found(sample, streams)
        assert len({s for s, _ in places}) == most
        assert len(set(places)) == len(places) == 2 * most
        assert set(in_any_order(sample)) < set(in_any_order(whole))


@pytest.mark.parametrize("most", [4, 8])
def test_a_sample_is_the_same_at_the_same_position_and_another_at_others(most: int) -> None:
    shard, streams = rig(FINE, 60, streams=12)
    one, other = shard.windows(most), shard.windows(most)
    assert one is not None
    assert other is not None
    assert [a.tobytes() for a in one] == [a.tobytes() for a in other]
    drawn = set()
    for _ in range(20):
        missing = Record(shard.position, "s0", FIRST_MS, FIRST_MS, math.nan)
        fold(shard, [missing])
        sample = shard.windows(most)
        assert sample is not None
        drawn.add(frozenset(s for s, _ in found(sample, streams)))
    assert len(drawn) > 10
    assert len(frozenset.union(*drawn)) == 12, "no stream is left out for ever"


@pytest.mark.parametrize("name", ["lstm", "two layers, not from 1 on"])
def test_a_sample_does_not_depend_on_how_the_log_was_cut(name: str) -> None:
    log = make_log(4, 1200, METHODS[name], streams=12, active=10)
    shards = [shard_of(METHODS[name]) for _ in range(3)]
    for shard, cuts in zip(shards, ([], range(1200), [7, 8, 300, 999]), strict=True):
        fold(shard, log, cuts)
    samples = [shard.windows(5) for shard in shards]
    assert samples[0] is not None
    assert samples[0].inputs.shape[1] > 5
    for sample in samples[1:]:
        assert sample is not None
        assert [a.tobytes() for a in sample] == [a.tobytes() for a in samples[0]]


# ---- what must not teach


def test_a_sensor_that_is_stuck_is_left_out_until_it_moves() -> None:
    n = 41 + kept(FINE)
    values = {"moves": walk(n + 9), "stuck": np.concatenate([walk(40, 2), np.full(n - 40, 5.0)])}
    log = log_of(values)
    streams = {name: told(log, name, (), FINE) for name in values}
    shard = shard_of(FINE)
    before = 2 * n - 2  # its first events that do not move are still beside one that did
    fold(shard, log[:before])
    sample = shard.windows(99)
    assert sample is not None
    assert {name for name, _ in found(sample, streams)} == {"moves", "stuck"}
    fold(shard, log[before:])
    for most in (1, 99):
        sample = shard.windows(most)
        assert sample is not None
        assert {name for name, _ in found(sample, streams)} == {"moves"}, most
    fold(shard, [Record(len(log), "stuck", FIRST_MS + STEP_MS * n, 0, 5.5)])
    sample = shard.windows(99)
    assert sample is not None
    assert sample.inputs.shape[1] == 4


def test_a_window_that_holds_what_is_not_finite_is_left_out_and_the_rest_stays() -> None:
    shard, streams = rig(FINE, 64, streams=3)
    whole = shard.windows(99)
    assert whole is not None
    rows, size = shard.table.changing(np.arange(3)), kept(FINE)
    rows["window_inputs"][0, 60 % size, 2] = math.inf  # of s0's newest window
    rows["window_hidden"][1, (len(streams["s1"]) // 8 * 8 - 8) // 8 % (size // 8), 0, 0, 3] = math.nan
    sample = shard.windows(99)
    assert sample is not None
    assert set(in_any_order(sample)) < set(in_any_order(whole))
    newest = {s: len(events) // 8 * 8 - 8 for s, events in streams.items()}
    assert sorted(found(sample, streams)) == sorted(
        [(s, newest[s] - 8) for s in ("s0", "s1", "s2")] + [("s2", newest["s2"])]
    )
    rows["window_inputs"][:, :, 0] = math.nan
    assert shard.windows(99) is None


def test_there_is_no_sample_before_a_stream_has_a_whole_window() -> None:
    shard, log = shard_of(FINE), log_of({"a": walk(40), "b": walk(5)})
    assert shard.windows(99) is None
    sizes = []
    for record in log:
        fold(shard, [record])
        sample = shard.windows(99)
        sizes.append(0 if sample is None else sample.inputs.shape[1])
    of_a = [size for record, size in zip(log, sizes, strict=True) if record.name == "a"]
    assert of_a == [0] * 7 + [1] * 8 + [2] * 25


def test_a_removed_stream_teaches_nothing() -> None:
    shard, streams = rig(FINE, 60, streams=3)
    shard.table.remove(shard.table.index["s1"])
    sample = shard.windows(99)
    assert sample is not None
    assert {s for s, _ in found(sample, streams)} == {"s0", "s2"}


def test_rings_have_room_for_both_windows_whatever_the_horizons() -> None:
    for longest in (1, 7, 8, 9, 24, 25, 48):
        for window in (8, 24):
            method = replace(FINE, horizons=(longest,), window=window)
            assert windows.ring(method) == kept(method)
            assert windows.ring(method) % SAVE_EVERY == 0
            assert longest <= windows.older(method) < longest + SAVE_EVERY


def test_streams_that_have_fallen_silent_are_not_sampled() -> None:
    """Their windows would be the same for ever."""
    shard = shard_of(next(iter(METHODS.values())))
    method = shard.method
    now_ms, offset = 1_700_000_000_000, 0
    log = []
    for i in range(21_000):
        name = f"s{i % 10}" if i < 1000 else "alive"
        now_ms, offset = now_ms + 1000, offset + 1
        log.append(Record(offset, name, now_ms, now_ms, float(np.sin(i)), (0.0,) * len(method.covariates)))
    fold(shard, log[:1000])
    before = shard.windows(99)
    assert before is not None
    assert before.labels.shape[1] > 10
    fold(shard, log[1000:])
    after = shard.windows(99)
    assert after is not None
    assert after.labels.shape[1] == 2, "both windows of the one that speaks"


def test_a_hidden_state_that_is_not_finite_begins_anew() -> None:
    method = replace(FINE, cell="rnn_relu")
    shard = shard_of(method)
    log = [Record(i, "s", 1_700_000_000_000 + 1000 * i, 1000 * i, float(np.sin(i))) for i in range(120)]
    fold(shard, log[:40])
    fine = shard.network.weights
    shard.adopt({name: weight * 1e30 for name, weight in fine.items()}, 40, rolled_back=False)
    fold(shard, log[40:50])
    shard.adopt({name: weight * 1e-30 for name, weight in fine.items()}, 50, rolled_back=True)
    fold(shard, log[50:])
    assert np.isfinite(shard.table.rows["hidden"]).all()
    assert shard.windows(9) is not None


# ---- what no sample before had


def labels_in(sample: Windows, streams: dict[str, list[Told]]) -> set[tuple[str, int, int]]:
    """Stream, event and horizon of each label."""
    return {
        (name, first + int(t), int(j))
        for b, (name, first) in enumerate(found(sample, streams))
        for t, j in np.argwhere(~np.isnan(sample.labels[:, b]))
        if first > 0  # the first inputs of all streams are alike
    }


@pytest.mark.parametrize("most", [4, 99])
def test_labels_told_as_unlearnt_were_in_no_sample_before(most: int) -> None:
    """And of those that are in a sample for the first time, most are told."""
    method = METHODS["lstm"]  # windows that follow each other overlap
    values = {f"s{s}": walk(200, seed=s) for s in range(6)}
    log, shard = log_of(values), shard_of(method)
    streams = {name: told(log, name, (), method) for name in values}
    learnt: set[tuple[str, int, int]] = set()
    many = firsts = 0
    assert shard.windows(most) is None
    for cut in range(0, len(log), 19):
        fold(shard, log[cut : cut + 19])
        sample = shard.windows(most)
        if sample is None:
            continue
        new = windows.unlearnt(sample, np.array(method.horizons, np.float64))
        assert all(array.flags.c_contiguous for array in new)
        here, said = labels_in(sample, streams), labels_in(new, streams)
        assert said <= here - learnt
        many, firsts = many + len(said), firsts + len(here - learnt)
        learnt |= here
    assert many > (0.5 if most == 4 else 0.8) * firsts > 100


def test_labels_of_a_stream_that_is_new_or_has_anothers_row_are_not_taken_for_learnt_ones() -> None:
    values = {f"s{s}": walk(200, seed=s) for s in range(4)}
    old, later = (log_of({name: values[name] for name in names}) for names in (("s0", "s1"), ("s2", "s3")))
    later = [record._replace(offset=len(old) + n) for n, record in enumerate(later[:100])]
    shard, horizons = shard_of(FINE), np.array(FINE.horizons, np.float64)
    streams = {name: told([*old, *later], name, (), FINE) for name in values}
    fold(shard, old[:120])
    learnt = shard.windows(99)
    assert learnt is not None
    shard.table.remove(shard.table.index["s0"])
    told_of = []
    for part in later[:60], later[60:]:
        fold(shard, part)
        sample = shard.windows(99)
        assert sample is not None
        told_of.append((labels_in(windows.unlearnt(sample, horizons), streams), labels_in(sample, streams)))
    (first, whole), (second, _) = told_of
    assert (shard.table.index["s2"], shard.table.index["s3"]) == (0, 2)
    assert not (first | second) & labels_in(learnt, streams)
    assert {name for name, *_ in first} == {"s3"}
    assert {label for label in first if label[0] == "s3"} == {label for label in whole if label[0] == "s3"}
    assert {name for name, *_ in second} == {"s2", "s3"}, "whose row it was is forgotten after one sample"
    assert not second & whole


def test_of_the_first_sample_of_a_life_nothing_is_told_as_unlearnt() -> None:
    """What another life of the shard has learnt from, this one does not know."""
    shard, _ = rig(FINE, 60)
    sample = shard.windows(99)
    assert sample is not None
    assert windows.unlearnt(sample, np.array(FINE.horizons, np.float64)).labels.size == 0
