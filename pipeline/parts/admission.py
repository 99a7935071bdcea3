"""Which events a stream accepts, judged by its own last event only, and the stream's own step."""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.part import Part

ACCEPTED, LATE, DUPLICATE, MISSING = 0, 1, 2, 3
GAPS = 5  # the step is the median of so many last gaps: two odd ones do not move it


def fields(_method: Method) -> list[Field]:
    """Fields that judge a stream's next event."""
    return [
        ("count", "i8"),  # events accepted so far
        ("time_ms", "i8"),  # last accepted event
        ("value", "f8"),  # its value as it came
        ("record_ms", "i8"),  # newest record timestamp, for removal of idle streams
        ("gaps_ms", "i8", (GAPS,)),  # ring of the last positive time differences
        ("gap_count", "i8"),
    ]


@kernel
def admit(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Judge a batch's events (n,) in offset order and move each accepted one's stream to it.

    Sets `verdict`, and of accepted events `turn` and `elapsed_ms`; a row of -1 is none, since the value is missing.
    """
    accept_same_time = fixed[0]["same_time"]
    turns = np.zeros(len(rows), np.int64)
    for e in range(len(events)):
        event = events[e]
        value = event["value"]
        if np.isnan(value):
            event["verdict"] = MISSING
            continue
        r = event["row"]
        row = rows[r]
        elapsed = np.int64(-1)
        # `turns` counts the batch's events before `count` does
        if row["count"] + turns[r] > 0:
            elapsed = event["time_ms"] - row["time_ms"]
            if elapsed == 0 and value == row["value"]:
                event["verdict"] = DUPLICATE
                continue
            if elapsed < 0 or (elapsed == 0 and not accept_same_time):
                event["verdict"] = LATE
                continue
        row["time_ms"] = event["time_ms"]
        row["value"] = value
        row["record_ms"] = max(row["record_ms"], event["record_ms"])
        event["verdict"] = ACCEPTED
        event["elapsed_ms"] = elapsed
        event["turn"] = turns[r]
        turns[r] += 1


@kernel
def pace(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Count the event, learn the stream's step; find where a gap of more than `max_gap` steps breaks the sequence."""
    max_gap = fixed[0]["max_gap"]
    ordered = np.zeros(GAPS, np.int64)
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        event["n"] = row["count"]
        row["count"] += 1
        gaps = row["gaps_ms"]
        event["step_ms"] = 0
        for after in range(2):  # the median of the gaps before this event, then of those with its own
            if after == 1:
                event["broken"] = row["gap_count"] > 0 and event["elapsed_ms"] > max_gap * event["step_ms"]
                if event["elapsed_ms"] <= 0:
                    continue
                gaps[row["gap_count"] % GAPS] = event["elapsed_ms"]
                row["gap_count"] += 1
            known = min(row["gap_count"], GAPS)
            for i in range(known):  # sorted by hand: for five numbers NumPy's median costs ten times as much
                k = i
                while k > 0 and ordered[k - 1] > gaps[i]:
                    ordered[k] = ordered[k - 1]
                    k -= 1
                ordered[k] = gaps[i]
            if known > 0:
                event["step_ms"] = (ordered[(known - 1) // 2] + ordered[known // 2]) // 2


PART = Part(
    fields,
    fixed=lambda method: {"same_time": method.same_time == "accept", "max_gap": method.max_gap},
    arrive=(pace,),
)
