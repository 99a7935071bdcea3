"""Clocks that go on only when a test moves them."""

import pytest


class Clock:
    """In the place of `time.monotonic` or `time.time`; `now` is in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The only monotonic clock while the test runs."""
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The only clock that knows the date while the test runs."""
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    return clock
