"""What a fold gave to learn from is what its rows keep, and held-out time is held out."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.learning import windows
from pipeline.method import Method
from pipeline.pretraining import lanes
from pipeline.pretraining.sequences import Collector, Sequences
from pipeline.shard import Shard
from tests.rigs.methods import FINE
from tests.rigs.shard_rigs import Record, events_of, fold, make_log, restless

METHOD = replace(FINE, max_gap=20)
BEGIN_MS, STEP_MS = 1_700_000_000_000, 3_600_000


def gathered(records: list[Record], held_out: float = 0.25, cuts: tuple[int, ...] = ()) -> tuple[Sequences, Shard]:
    shard, collector = Shard(METHOD, restless(METHOD), 0, {}), Collector(METHOD)
    shard.wave.then(collector)
    fold(shard, records, cuts)
    return collector.sequences(held_out), shard


def two_streams(events: int = 60, gap_at: int | None = None) -> list[Record]:
    """Events of both in turn; one pauses for long before event `gap_at`."""
    rng, records, late = np.random.default_rng(3), [], 0
    for i in range(events):
        late += 100 * STEP_MS if i == gap_at else 0
        for name in ("a", "b"):
            now_ms = BEGIN_MS + STEP_MS * i + (late if name == "b" else 0)
            records.append(Record(len(records), name, now_ms, now_ms, float(rng.normal())))
    return records


def test_inputs_and_labels_are_those_that_the_rows_keep() -> None:
    data, shard = gathered(two_streams(), held_out=0)
    assert data.begins.tolist() == [0, 60, 120]
    ring = windows.ring(METHOD)
    for row, begin in enumerate((0, 60)):
        kept = shard.table.rows[row]
        for n in range(60 - ring, 60):
            own = windows.WIDTH
            assert np.array_equal(data.inputs[begin + n, :own], kept["window_inputs"][n % ring])
            np.testing.assert_array_equal(data.labels[begin + n], kept["window_labels"][n % ring])
    assert np.isnan(data.held_out).all()


def test_no_label_of_held_out_time_is_learnt_from_and_all_forecasts_made_in_it_are_scored() -> None:
    whole, _ = gathered(two_streams(), held_out=0)
    data, _ = gathered(two_streams(), held_out=0.25)
    n = np.tile(np.arange(60), 2)
    for j, h in enumerate(METHOD.horizons):
        for kept, there in ((data.labels, n + h < 45), (data.held_out, n >= 45)):
            np.testing.assert_array_equal(kept[:, j], np.where(there, whole.labels[:, j], np.nan))


def test_a_sequence_ends_where_the_hidden_state_begins_anew() -> None:
    data, _ = gathered(two_streams(gap_at=20))
    assert data.begins.tolist() == [0, 60, 80, 120]


def test_what_is_gathered_does_not_depend_on_batches() -> None:
    records = make_log(5, 900, METHOD)
    one, _ = gathered(records)
    other, _ = gathered(records, cuts=tuple(range(0, 900, 7)))
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_an_event_whose_inputs_are_not_finite_teaches_nothing() -> None:
    collector = Collector(METHOD)
    events = events_of(METHOD, 8, n=np.arange(8), time_ms=np.arange(8), x=1.0, label=1.0)
    events["x"][3, 2] = np.inf
    collector(events, events, events)
    data = collector.sequences(0)
    assert np.isfinite(data.inputs).all()
    assert np.isnan(data.labels[:, 0]).tolist() == [False] * 3 + [True] + [False] * 3 + [True]


def test_sequences_of_several_folds_stay_apart() -> None:
    one, _ = gathered(two_streams(30))
    both = Sequences.joined([one, one])
    assert both.begins.tolist() == [0, 30, 60, 90, 120]
    np.testing.assert_array_equal(both.inputs[60:], one.inputs)


# ---- side by side


def made(labels: np.ndarray, begins: list[int]) -> Sequences:
    inputs = np.arange(len(labels) * 2, dtype=np.float32).reshape(-1, 2)
    return Sequences(inputs, labels, labels, np.array(begins), np.array([-1, 1], np.float32))


@pytest.mark.parametrize(("many", "steps"), [(1, 7), (3, 16), (9, 4)])
def test_every_event_goes_through_one_lane_in_order(many: int, steps: int) -> None:
    data = made(np.zeros((100, 2)), [0, 3, 60, 100])
    pieces = lanes.shuffled(data, 16, np.random.default_rng(1))
    assert sorted(p for begin, end, _ in pieces.tolist() for p in range(begin, end)) == list(range(100))
    seen, now = [], [-1] * many
    for stretch in lanes.side_by_side(pieces, many, steps):
        for lane in range(many):
            places = [place for place in stretch.places[:, lane].tolist() if place >= 0]
            if places and not stretch.anew[lane]:
                assert places[0] == now[lane] + 1, "the hidden state goes on where it was left"
            if places:
                assert places == list(range(places[0], places[-1] + 1))
                now[lane] = places[-1]
            seen += places
    assert sorted(seen) == list(range(100))


def test_only_sequences_with_something_held_out_are_scored_up_to_the_last_of_it() -> None:
    held_out = np.full((100, 2), np.nan, np.float32)
    held_out[[4, 50, 70], [0, 1, 1]] = 1.0
    data = made(held_out, [0, 3, 60, 80, 100])
    assert lanes.held_out(data).tolist() == [[3, 51, 0], [60, 71, 0]]


def test_upside_down_are_labels_and_the_inputs_that_follow_the_value() -> None:
    method = Method(horizons=(1, 6))
    assert Collector(method).sequences(0).turned.tolist() == [-1] * windows.WIDTH + [1] * 6
    data = made(np.ones((4, 2), np.float32), [0, 4])
    stretch = next(lanes.side_by_side(np.array([[0, 2, 1], [2, 4, 0]]), 2, 3))
    x, y = stretch.take(data, data.labels)
    assert x[:, 0].tolist() == [[0, 1], [-2, 3], [0, 0]]
    assert x[:, 1].tolist() == [[4, 5], [6, 7], [0, 0]]
    np.testing.assert_array_equal(y[:, :, 0].T, [[-1, -1, np.nan], [1, 1, np.nan]])
