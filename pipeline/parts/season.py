"""Seasonality without look-ahead: one slot per part of a day or week, with its last value and its running mean.

    prev = last[slot(t)], pprev = mean[slot(t)] before the update (z_{t-1} if never seen)
    last[slot] = z_t,  mean[slot] += max(0.1, 1/visits) (z_t - mean[slot])
    sn_h = last[slot(t+h)], pf_h = mean[slot(t+h)] (z_t if never seen): seasonal naive and seasonal profile

Which season a stream has is settled by its first 20 time steps: steps under 18 hours look for a day, under five days
for a week, longer ones for none. Where t+h falls is the time h steps on; where a stream's gaps follow the hour (nights
without events), the last gap after each slot is followed instead, for as long as it has foretold the next slot better.
"""

from pipeline.arrays import Field, Floats, Ints, Rows
from pipeline.compiled import kernel
from pipeline.method import Method, Season

DAY_MS = 86_400_000
AUTO, NONE, DAY, WEEK, EVENTS = -1, 0, 1, 2, 3
CODES: dict[Season, int] = {"auto": AUTO, "none": NONE, "day": DAY, "week": WEEK, "events": EVENTS}
FIRST = 20  # steps that settle the season
DAY_STEP_MS = 3 * DAY_MS // 4  # shorter ones look for a day
WEEK_STEP_MS = 5 * DAY_MS  # longer ones for nothing
PROFILE_RATE = 0.1
FORETELL = 200.0  # events over which two ways to foretell the next slot are compared
BETTER = 0.01  # by so much learned gaps must be better
BOUND = 1e6  # horizon scales: no expert moves further, however small the scale of a stream that stood still


def fields(method: Method) -> list[Field]:
    """The table, and what is known of the stream's times."""
    s = method.season_slots
    return [
        ("slot_last", "f8", (s,)),
        ("slot_before", "f8", (2,)),  # prev and pprev of the present event
        ("slot_shift", "f4"),  # prev_t - prev_{t-1}
        ("slot_apart", "f4", (s,)),  # mean - last: small beside them, so that float32 is enough
        ("slot_gap_ms", "f4", (s,)),  # the last gap after each slot, 0 unknown
        ("gap_merit", "f4"),  # how much more often learned gaps foretold the next slot than the step did
        ("slot", "i4"),  # of the present event
        ("slot_visits", "u1", (s,)),  # no more than 255 matter
        ("season", "u1"),  # NONE, DAY, WEEK or EVENTS
        ("season_votes", "u1", (3,)),  # of the first steps, for DAY, WEEK, NONE
    ]


@kernel
def find_slot(rows: Rows, index: Ints, n: Ints, time_ms: Ints, elapsed_ms: Ints, step_ms: Ints, choice: int) -> None:
    """Choose the season where that is open, find the event's slot, and learn how time goes on from slot to slot."""
    for b in range(len(index)):
        row = rows[index[b]]
        visits = row["slot_visits"]
        gap_ms = row["slot_gap_ms"]
        slots = len(visits)
        season = choice
        if choice == AUTO:
            votes = row["season_votes"]
            if elapsed_ms[b] > 0 and votes[0] + votes[1] + votes[2] < FIRST:
                votes[0 if elapsed_ms[b] < DAY_STEP_MS else 1 if elapsed_ms[b] < WEEK_STEP_MS else 2] += 1
            season = DAY
            if votes[1] > votes[0]:
                season = WEEK
            if votes[2] > max(votes[0], votes[1]):
                season = NONE
            if n[b] > 0 and season != row["season"]:
                visits[:] = 0
                gap_ms[:] = 0.0
                row["gap_merit"] = 0.0
        row["season"] = season
        before = row["slot"]
        if season == NONE:
            row["slot"] = 0
        elif season == EVENTS:
            row["slot"] = n[b] % slots
        else:
            period = DAY_MS if season == DAY else 7 * DAY_MS
            slot = (time_ms[b] % period) * slots // period
            if n[b] > 0 and elapsed_ms[b] > 0:
                start = time_ms[b] - elapsed_ms[b]
                gap = step_ms[b] if gap_ms[before] == 0.0 else int(gap_ms[before])
                by_step = ((start + step_ms[b]) % period) * slots // period == slot
                by_gap = ((start + gap) % period) * slots // period == slot
                merit = (1.0 if by_gap else 0.0) - (1.0 if by_step else 0.0)
                row["gap_merit"] += (merit - row["gap_merit"]) / FORETELL
                gap_ms[before] = min(elapsed_ms[b], period)
            row["slot"] = slot


@kernel
def learn(rows: Rows, index: Ints, n: Ints, z: Floats) -> None:
    """Keep what the slot said, then take in z (B,). The ring of values must still end at the event before."""
    for b in range(len(index)):
        row = rows[index[b]]
        last = row["slot_last"]
        apart = row["slot_apart"]
        visits = row["slot_visits"]
        said = row["slot_before"]
        values = row["values"]
        s = row["slot"]
        before = said[0]
        said[0] = last[s]
        said[1] = last[s] + apart[s]
        if visits[s] == 0:
            said[0] = z[b] if n[b] == 0 else values[(n[b] - 1) % len(values)]
            said[1] = said[0]
        row["slot_shift"] = 0.0 if n[b] == 0 else said[0] - before
        if row["season"] != NONE:
            mean = z[b] if visits[s] == 0 else said[1]
            visits[s] = min(visits[s] + 1, 255)
            last[s] = z[b]
            apart[s] = (1.0 - max(PROFILE_RATE, 1.0 / visits[s])) * (mean - z[b])


@kernel
def look_ahead(
    rows: Rows,
    index: Ints,  # (B,)
    z: Floats,  # (B,)
    time_ms: Ints,  # (B,)
    step_ms: Ints,  # (B,)
    spans: Ints,  # (K,)
    naive: Floats,  # (B, K) out: sn_h
    profile: Floats,  # (B, K) out: pf_h
    target_slot: Ints,  # (B, K) out
    target_ms: Ints,  # (B, K) out
) -> None:
    """Where each span ahead falls, and what that slot last had and has on average."""
    for b in range(len(index)):
        row = rows[index[b]]
        last = row["slot_last"]
        apart = row["slot_apart"]
        visits = row["slot_visits"]
        gap_ms = row["slot_gap_ms"]
        slots = len(visits)
        season = row["season"]
        period = DAY_MS if season == DAY else 7 * DAY_MS
        at = time_ms[b]
        slot = row["slot"]
        walked = 0
        for j in range(len(spans)):
            if season == NONE:
                slot = 0
            elif season == EVENTS or step_ms[b] == 0:
                slot = (row["slot"] + spans[j]) % slots
            elif row["gap_merit"] <= BETTER:
                at = time_ms[b] + spans[j] * step_ms[b]
                slot = (at % period) * slots // period
            else:
                if walked > spans[j]:
                    at = time_ms[b]
                    slot = row["slot"]
                    walked = 0
                while walked < spans[j]:
                    at += step_ms[b] if gap_ms[slot] == 0.0 else int(gap_ms[slot])
                    slot = (at % period) * slots // period
                    walked += 1
            target_slot[b, j] = slot
            target_ms[b, j] = at
            naive[b, j] = last[slot] if visits[slot] > 0 else z[b]
            profile[b, j] = last[slot] + apart[slot] if visits[slot] > 0 else z[b]


@kernel
def move(rows: Rows, index: Ints, z: Floats, naive: Floats, profile: Floats, moves: Floats) -> None:
    """The season's four forecasts as moves (B, Z, 4) from z in horizon scales: sn, pf, and both shifts from today's."""
    for b in range(len(index)):
        row = rows[index[b]]
        said = row["slot_before"]
        scale = row["scale"]
        for j in range(moves.shape[1]):
            for m in range(4):
                moves[b, j, m] = 0.0
            if scale[j] > 0.0:
                moves[b, j, 0] = min(max((naive[b, j] - z[b]) / scale[j], -BOUND), BOUND)
                moves[b, j, 1] = min(max((profile[b, j] - z[b]) / scale[j], -BOUND), BOUND)
                moves[b, j, 2] = min(max((naive[b, j] - said[0]) / scale[j], -BOUND), BOUND)
                moves[b, j, 3] = min(max((profile[b, j] - said[1]) / scale[j], -BOUND), BOUND)
