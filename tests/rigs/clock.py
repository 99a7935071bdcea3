"""A monotonic clock that goes on only when a test moves it."""

import pytest


class Clock:
    """In the place of `time.monotonic`; `now` is in seconds."""

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
