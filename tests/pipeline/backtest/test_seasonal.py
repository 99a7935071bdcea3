"""The seasonal naive is y[t - m], m the events of the stream's own season, whatever nights are left out."""

from typing import Any

import numpy as np
import pytest

from pipeline.backtest.seasonal import Season, season_events, season_of, seasonal_naive
from pipeline.method import Method

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
HOURS = np.arange(24 * 60) * HOUR_MS + 1_704_067_200_000  # from a Monday on
DAYS = HOURS[::24]


def settled(time_ms: Any, **settings: Any) -> int:
    times = np.asarray(time_ms, np.int64)
    season = season_of(times, Method(**settings))
    assert season is not None
    return season_events(times, season)


@pytest.mark.parametrize(
    ("time_ms", "settings", "events"),
    [
        (HOURS, {}, 24),
        (HOURS[::4], {}, 6),
        (np.arange(9000) * 60_000, {}, 1440),
        (DAYS, {}, 7),
        (DAYS[np.arange(60) % 7 < 5], {}, 5),
        (HOURS[(np.arange(1440) % 24 >= 8) & (np.arange(1440) % 24 < 18)], {}, 10),
        (np.arange(40) * 30 * DAY_MS, {}, 0),
        (HOURS, {"season": "week"}, 168),
        (HOURS, {"season": "none"}, 0),
        (np.arange(40) * 30 * DAY_MS, {"season": "events", "season_slots": 12}, 12),
        (np.sort(np.random.default_rng(1).integers(0, 60 * DAY_MS, 1440)), {}, 24),
    ],
)
def test_how_many_events_make_a_season(time_ms: Any, settings: dict[str, Any], events: int) -> None:
    found = settled(time_ms, **settings)
    assert abs(found - events) <= (2 if settings == {} and events == 24 else 0), found


def test_it_is_the_same_however_many_events_come_after_it_is_known() -> None:
    whole = season_of(HOURS, Method())
    assert whole == Season(DAY_MS, 0, HOUR_MS)
    assert season_of(HOURS[:20], Method()) is None
    assert {season_of(HOURS[:n], Method()) for n in range(21, 200)} == {whole}


@pytest.mark.parametrize("season", [Season(events=6), Season(6 * HOUR_MS, 0, HOUR_MS)])
@pytest.mark.parametrize("horizon", [1, 5, 6, 7, 24])
def test_it_is_the_value_a_season_before_and_none_after_the_origin(horizon: int, season: Season) -> None:
    origins = np.arange(70)
    naive = seasonal_naive(np.arange(100.0), HOURS[:100], origins, horizon, season)
    assert (naive[:20] == origins[:20]).all(), "the last value stands in"
    late = naive[20:]
    assert ((origins[20:] + horizon - late) % 6 == 0).all()
    assert (late <= origins[20:]).all()
    assert (late > origins[20:] - 6).all(), "the last season"


def test_missing_events_move_no_other_season() -> None:
    """With every tenth event gone, and nights, the hour of the day stays the same unless it was gone the day before."""
    kept = np.random.default_rng(5).random(1440) > 0.1
    kept &= np.arange(1440) % 24 >= 6
    time, hour = HOURS[kept], np.arange(1440)[kept] % 24
    season = season_of(time, Method())
    for h in (1, 6, 18):
        origins = np.arange(30, len(time) - h)
        naive = seasonal_naive(hour.astype(float), time, origins, h, season)
        off = (hour[origins + h] - naive) % 24
        assert 0.85 < (off == 0).mean() < 0.95
