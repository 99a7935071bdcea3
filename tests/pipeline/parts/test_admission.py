"""The rules of acceptance, against a twin in plain Python."""

from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.method import Method
from pipeline.parts import admission
from pipeline.records import fixed, layout, published
from tests.rigs.shard_rigs import events_of

NAN = float("nan")
WORDS = ("accepted", "late", "duplicate", "missing")
Event = tuple[int, int, float]  # row, time, value


class Twin:
    """One stream, judged by its own last event only."""

    def __init__(self) -> None:
        self.last: tuple[int, float] | None = None
        self.gaps: list[int] = []

    def judge(self, time_ms: int, value: float, accept_same_time: bool) -> str:
        if value != value:
            return "missing"
        if self.last is not None:
            if (time_ms, value) == self.last:
                return "duplicate"
            if time_ms < self.last[0] or (time_ms == self.last[0] and not accept_same_time):
                return "late"
        return "accepted"

    def accept(self, time_ms: int, value: float, max_gap: int) -> tuple[int, bool]:
        """The stream's step with this event, and whether a gap broke the sequence."""
        gap = None if self.last is None else time_ms - self.last[0]
        broken = gap is not None and bool(self.gaps) and gap > max_gap * int(median(self.gaps[-5:]))
        if gap:
            self.gaps.append(gap)
        self.last = (time_ms, value)
        return (int(median(self.gaps[-5:])) if self.gaps else 0), broken


def judged(events: list[Event], accept_same_time: bool, max_gap: int, batches: int) -> list[tuple[str, int, bool]]:
    """What the kernels say, an event at a time after `admit` has seen its batch."""
    method = Method(same_time="accept" if accept_same_time else "drop", max_gap=max_gap)
    rows = np.zeros(4, layout(method))
    out = []
    for part in np.array_split(np.arange(len(events)), batches):
        some = [events[i] for i in part]
        events_ = np.zeros(len(some), published(method))
        for name, k in (("row", 0), ("time_ms", 1), ("record_ms", 1), ("value", 2)):
            events_[name] = [e[k] for e in some]
        admission.admit(rows, events_, fixed(method))
        turns = [0] * 4
        for event in events_:
            one = events_of(method, row=event["row"], elapsed_ms=event["elapsed_ms"])
            if event["verdict"] == admission.ACCEPTED:
                row = event["row"]
                assert event["turn"] == turns[row]
                turns[row] += 1
                admission.pace(rows, one, fixed(method))
            out.append((WORDS[event["verdict"]], int(one["step_ms"][0]), bool(one["broken"][0])))
    return out


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(-3, 60), st.sampled_from([0.0, -0.0, 1.0, 2.5, NAN])),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_the_kernels_judge_as_the_rules_say(events: list[Event], same: bool, max_gap: int, batches: int) -> None:
    twins = [Twin() for _ in range(4)]
    expected: list[tuple[str, int, bool]] = []
    for row, time_ms, value in events:
        verdict = twins[row].judge(time_ms, value, same)
        step, broken = twins[row].accept(time_ms, value, max_gap) if verdict == "accepted" else (0, False)
        expected.append((verdict, step, broken))
    assert judged(events, same, max_gap, batches) == expected


def words(*events: tuple[int, float], same: bool = False, row: int = 0) -> list[str]:
    return [verdict for verdict, _, _ in judged([(row, *event) for event in events], same, 100, 1)]


def test_the_rules_one_by_one() -> None:
    assert words((5, 1.0), (4, 2.0), (5, 1.0), (5, 2.0), (6, 1.0)) == [
        "accepted",
        "late",
        "duplicate",
        "late",
        "accepted",
    ]
    assert words((5, 1.0), (5, 2.0), (5, 1.0), (5, 1.0), same=True) == ["accepted"] * 3 + ["duplicate"]
    assert words((5, NAN), (-5, 1.0), (5, NAN)) == ["missing", "accepted", "missing"]


def test_no_clock_of_one_stream_makes_another_late() -> None:
    events: list[Event] = [(0, 1_000_000, 1.0), (1, 5, 1.0), (2, -7, 1.0), (1, 6, 1.0)]
    assert [v for v, _, _ in judged(events, False, 100, 1)] == ["accepted"] * 4


@pytest.mark.parametrize("batches", [1, 9])
def test_the_step_is_the_median_of_the_last_gaps_and_a_long_gap_breaks(batches: int) -> None:
    times = [0, 10, 20, 30, 40, 140, 150, 250, 551]
    out = judged([(0, t, float(t)) for t in times], False, 30, batches)
    assert [step for _, step, _ in out] == [0, 10, 10, 10, 10, 10, 10, 10, 100]
    assert [broken for *_, broken in out] == [False] * 8 + [True]


def test_an_event_without_a_row_touches_none() -> None:
    rows = np.zeros(1, layout(Method()))
    before = rows.tobytes()
    events = np.zeros(1, published(Method()))
    events["row"], events["value"] = -1, NAN
    admission.admit(rows, events, fixed(Method()))
    assert events["verdict"][0] == admission.MISSING
    assert rows.tobytes() == before
