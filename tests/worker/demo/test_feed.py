"""The demo's feeder: which events it sends, and where it goes on."""

import pytest

from worker.demo import feed, newyork

HOUR_MS = 3_600_000
FIRST_MS = 1_357_020_000_000


@pytest.fixture(autouse=True)
def _two_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set is fetched elsewhere."""
    events = [newyork.Event(s, FIRST_MS + h * HOUR_MS, float(h)) for h in range(2) for s in ("JFK.temp", "LGA.temp")]
    monkeypatch.setattr(newyork, "events", lambda: events)


def test_years_follow_each_other_until_today() -> None:
    sent = list(feed.years(0, FIRST_MS + 2 * feed.YEAR_MS))
    assert len(sent) == 8
    assert [event.time_ms for event in sent] == sorted(event.time_ms for event in sent)
    assert sent[-1].time_ms == FIRST_MS + feed.YEAR_MS + HOUR_MS
    assert sent[4].value == sent[0].value


def test_a_restart_sends_the_last_hour_again_and_no_more() -> None:
    times = {event.time_ms for event in feed.years(FIRST_MS + HOUR_MS, FIRST_MS + feed.YEAR_MS)}
    assert times == {FIRST_MS + HOUR_MS}
