"""A trend that has ended is not carried on, one that goes on is, and so is one that starts anew."""

import numpy as np
import pytest

from pipeline.arrays import Floats
from pipeline.batch import Batch
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard

METHOD = Method(hidden_size=8)
FAR, H = 4, 24  # the longest horizon's place, and it
HOUR_MS, UP, STOP, ANEW, N = 3_600_000, 400, 900, 1_200, 1_600
AT = np.arange(N)


def noisy(slope: Floats, seed: int) -> Floats:
    """A path of such slopes (N,)."""
    return np.asarray(np.cumsum(slope) + np.random.default_rng(seed).normal(size=N))


def folded(value: Floats) -> tuple[np.void, Floats]:
    """The stream's row after these values, and the errors (N - H,) of what was forecast for so far ahead."""
    shard = Shard(METHOD, Network(Shape.of(METHOD)), 0, {})
    ms, nothing = HOUR_MS * AT, np.zeros((N, 0))
    made = shard.advance(Batch(AT, ["s"] * N, ms, ms, value, nothing, N, N, np.zeros(N, np.int64)))
    return shard.table.rows[0], made.mean[:-H, FAR] - value[H:]


@pytest.mark.parametrize("unit", [1.0, 1e25])
def test_half_a_day_after_its_end_a_trend_is_not_carried_on(unit: float) -> None:
    slope = 0.4 * ((AT >= UP) & (AT < STOP))
    for seed in range(3):
        value = noisy(slope, seed)
        last = np.abs(value[:-H] - value[H:])
        _, error = folded(value * unit)
        for begins, ends in ((STOP + 12, STOP + 24), (STOP + 24, STOP + 124)):
            assert np.abs(error[begins:ends] / unit).mean() < 1.5 * last[begins:ends].mean(), seed


def test_a_trend_that_goes_on_or_starts_anew_is_carried_on() -> None:
    for seed in range(3):
        value = noisy(0.4 * ((AT >= UP) & ((AT < STOP) | (AT >= ANEW))), seed)
        row, error = folded(value)
        for begins, ends in ((STOP - 200, STOP - H), (N - 100, N - H)):
            last = np.abs(value[begins:ends] - value[begins + H : ends + H])
            assert np.abs(error[begins:ends]).mean() < 0.7 * last.mean(), seed
        assert row["drift_over"][FAR] == 0


def test_a_trend_that_weakens_costs_little_and_a_pause_is_over_soon() -> None:
    """Squared errors of 100 events from the change on: what is left follows the labels up too."""
    for slopes in ((0.4, 0.18), (0.4, 0.0, 0.2)):
        changes = [UP, STOP, STOP + 60][: len(slopes)]
        slope = np.array([0.0, *slopes])[np.searchsorted(changes, AT, side="right")]
        begins, squared = changes[-1], []
        for seed in range(6):
            value = noisy(slope, seed)
            _, error = folded(value)
            last = value[:-H] - value[H:]
            squared.append([np.square(e[begins : begins + 100]).sum() for e in (error, last)])
        forecast, last_value = np.sum(squared, axis=0)
        assert forecast < 0.35 * last_value, slopes


def test_a_second_end_is_seen_though_what_is_usual_was_raised_by_one_that_was_none() -> None:
    """Up to half of the move that was promised, and no more: the second trend is half as steep."""
    slope = np.array([0.0, 0.4, 0.0, 0.2, 0.0])[np.searchsorted([400, 900, 960, 1300], AT, side="right")]
    absolute = []
    for seed in range(6):
        value = noisy(slope, seed)
        _, error = folded(value)
        there = slice(1_324, 1_424)
        absolute.append([np.abs(e[there]).sum() for e in (error, value[:-H] - value[H:])])
    forecast, last_value = np.sum(absolute, axis=0)
    assert forecast < 1.35 * last_value


def test_where_a_trend_ends_in_one_value_it_is_not_carried_on() -> None:
    value = noisy(0.4 * (AT >= UP), 5)
    value[STOP:] = value[STOP]
    _, error = folded(value)
    assert np.abs(error[STOP + 24 :]).max() < 1


def test_a_drift_whose_chance_has_just_grown_is_withheld_no_more_than_it_has_to_be() -> None:
    """What is usual follows from withholding in vain."""
    value = np.cumsum(np.where(AT < 600, 0.001, 1.0) * np.random.default_rng(8).normal(size=N) + 0.5 * (AT >= 600))
    _, error = folded(value)
    late = AT[:-H] > 900
    last = np.abs(value[:-H] - value[H:])
    assert np.abs(error[late]).mean() < 0.6 * last[late].mean()
