"""Which events a stream accepts, judged by its own last event only, and the stream's own step."""

import numpy as np

from pipeline.arrays import Bools, Field, Floats, Ints, Rows
from pipeline.compiled import kernel

ACCEPTED, LATE, DUPLICATE, MISSING = 0, 1, 2, 3
GAPS = 5  # the step is the median of so many last gaps: two odd ones do not move it


def fields() -> list[Field]:
    """Bookkeeping of one stream."""
    return [
        ("count", "i8"),  # events accepted so far
        ("time_ms", "i8"),  # last accepted event
        ("value", "f8"),  # its value as it came
        ("record_ms", "i8"),  # newest record timestamp, for removal of idle streams
        ("gaps_ms", "i8", (GAPS,)),  # ring of the last positive time differences
        ("gap_count", "i8"),
    ]


@kernel
def admit(
    rows: Rows,
    index: Ints,  # (n,) row of each event, -1 where it has none (its value is missing)
    time_ms: Ints,
    value: Floats,
    record_ms: Ints,
    accept_same_time: bool,
    verdict: Ints,  # (n,) out: ACCEPTED, LATE, DUPLICATE, MISSING
    turn: Ints,  # (n,) out: which event of its row this is within the batch, the wave's number
    elapsed_ms: Ints,  # (n,) out: since the stream's previous event, -1 for its first
) -> None:
    """Judge a batch in offset order and move each accepted event's stream to it."""
    turns = np.zeros(len(rows), np.int64)
    for e in range(len(index)):
        if np.isnan(value[e]):
            verdict[e] = MISSING
            continue
        r = index[e]
        row = rows[r]
        elapsed = np.int64(-1)
        # `turns` counts the batch's events before `count` does
        if row["count"] + turns[r] > 0:
            elapsed = time_ms[e] - row["time_ms"]
            if elapsed == 0 and value[e] == row["value"]:
                verdict[e] = DUPLICATE
                continue
            if elapsed < 0 or (elapsed == 0 and not accept_same_time):
                verdict[e] = LATE
                continue
        row["time_ms"] = time_ms[e]
        row["value"] = value[e]
        row["record_ms"] = max(row["record_ms"], record_ms[e])
        verdict[e] = ACCEPTED
        elapsed_ms[e] = elapsed
        turn[e] = turns[r]
        turns[r] += 1


@kernel
def pace(
    rows: Rows,
    index: Ints,  # (B,)
    elapsed_ms: Ints,  # (B,)
    max_gap: int,
    step_ms: Ints,  # (B,) out: the stream's own step, 0 while it has none
    broken: Bools,  # (B,) out: the gap was longer than `max_gap` steps
) -> None:
    """Learn the stream's step; say where a gap breaks the sequence."""
    for b in range(len(index)):
        row = rows[index[b]]
        gaps = row["gaps_ms"]
        known = min(row["gap_count"], GAPS)
        before = np.int64(np.median(gaps[:known])) if known > 0 else np.int64(0)
        broken[b] = known > 0 and elapsed_ms[b] > max_gap * before
        step_ms[b] = before
        if elapsed_ms[b] > 0:
            gaps[row["gap_count"] % GAPS] = elapsed_ms[b]
            row["gap_count"] += 1
            step_ms[b] = np.int64(np.median(gaps[: min(row["gap_count"], GAPS)]))
