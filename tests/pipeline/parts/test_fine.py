"""The day's parts where streams are odd: first events alike, numbers next to nothing, parts seen many times a day."""

import numpy as np

from pipeline.arrays import Floats
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.parts.fine import MIDDLE
from pipeline.shard import Shard
from tests.rigs.shard_rigs import Record, fold

METHOD = Method()
DAY_S = 86_400


def folded(values: Floats, step_s: float) -> tuple[np.void, Floats]:
    """The state of a stream after these values, and its forecasts' means."""
    log = [Record(n, "a", int(1000 * step_s * n), 0, float(v)) for n, v in enumerate(values)]
    shard = Shard(METHOD, Network(Shape.of(METHOD)), 0, {})
    means = fold(shard, log).mean
    return shard.table.rows[0], means


def test_a_number_next_to_nothing_stops_no_stream() -> None:
    """As the range of the parts, it is below every unit that there is."""
    values = np.zeros(600)
    values[0], values[308] = 1.0, 1e-323
    row, means = folded(values, 300)
    assert row["fine_parts"] == 288
    assert np.isfinite(means).all()


def test_a_stream_whose_first_events_are_alike_gets_parts_once_it_changes() -> None:
    rng = np.random.default_rng(1)
    day = np.where(np.arange(288) % 12 < 6, 0.0, 10.0)  # nothing that slots of an hour can tell
    values = np.resize(day, 15 * 288) + rng.normal(0, 0.3, 15 * 288)
    values[:40] = 0.0
    row, means = folded(values, 300)
    assert row["fine_parts"] == 288
    assert row["fine_unit"] > 0
    assert np.abs(means[-289:-1, 0] - values[-288:]).mean() < 0.6


def test_parts_that_are_seen_many_times_a_day_are_no_further_off_than_their_rate_explains() -> None:
    """Rounded always up or always down of a day, a part of one byte would walk to the edge of the noise."""
    row, _ = folded(np.random.default_rng(2).normal(size=DAY_S // 5), 5)
    assert row["fine_parts"] == 1440
    assert (row["fine"] > 0).mean() > 0.99
    parts = (row["fine"].astype(float) - MIDDLE[1]) * row["fine_unit"] + row["fine_base"]
    assert np.sqrt((parts[row["fine"] > 0] ** 2).mean()) < 0.55


def test_with_fewer_than_two_parts_to_a_slot_its_mean_is_its_last_value() -> None:
    row, _ = folded(np.where(np.arange(400) % 2, 10.0, 0.0) + np.random.default_rng(3).normal(0, 0.1, 400), 2400)
    assert row["fine_parts"] == 36
    assert row["slot_visits"].max() > 5
    assert (row["slot_apart"] == 0).all(), "and not beyond it"
