"""Seasonality without look-ahead: one slot per part of a day or week, with its last value and its running mean.

    prev = last[slot(t)], pprev = mean[slot(t)] before the update (z_{t-1} if never seen)
    last[slot] = z_t,  mean[slot] += max(0.1, 1/visits) (z_t - mean[slot])
    where the level moves (breaks.py), the table moves with it
    sn_h = last[slot(t+h)], pf_h = mean[slot(t+h)] (z_t if never seen): seasonal naive and seasonal profile

Which season a stream has is settled by its first 20 time steps: steps under 18 hours look for a day, under five days
for a week, longer ones for none. Where t+h falls is the time h steps on; where a stream's gaps follow the hour (nights
without events), the last gap after each slot is followed instead, for as long as it has foretold the next slot better.
"""

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method, Season
from pipeline.parts.part import Part

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
        ("slot_moved", "u1", (s,)),  # 1: its last value came before the level moved
        ("season", "u1"),  # NONE, DAY, WEEK or EVENTS
        ("season_votes", "u1", (3,)),  # of the first steps, for DAY, WEEK, NONE
    ]


@kernel
def move_level(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Move the table to the new level; or back, where last values that have come since stay."""
    for b in range(len(events)):
        event = events[b]
        shift = event["shift"]
        if shift == 0.0:
            continue
        row = rows[event["row"]]
        back = event["since"] < event["n"]
        moved = row["slot_moved"]
        row["slot_before"][0] += shift
        row["slot_before"][1] += shift
        for s in range(len(moved)):
            if back and moved[s] == 0:
                row["slot_apart"][s] += shift
            else:
                row["slot_last"][s] += shift
                moved[s] = 1


@kernel
def find_slot(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Choose the season where that is open, find the event's slot, and learn how time goes on from slot to slot."""
    choice = fixed[0]["season"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        n = event["n"]
        time_ms = event["time_ms"]
        elapsed_ms = event["elapsed_ms"]
        step_ms = event["step_ms"]
        visits = row["slot_visits"]
        gap_ms = row["slot_gap_ms"]
        slots = len(visits)
        season = choice
        if choice == AUTO:
            votes = row["season_votes"]
            if elapsed_ms > 0 and votes[0] + votes[1] + votes[2] < FIRST:
                votes[0 if elapsed_ms < DAY_STEP_MS else 1 if elapsed_ms < WEEK_STEP_MS else 2] += 1
            season = DAY
            if votes[1] > votes[0]:
                season = WEEK
            if votes[2] > max(votes[0], votes[1]):
                season = NONE
            if n > 0 and season != row["season"]:
                visits[:] = 0
                gap_ms[:] = 0.0
                row["gap_merit"] = 0.0
        row["season"] = season
        before = row["slot"]
        if season == NONE:
            row["slot"] = 0
        elif season == EVENTS:
            row["slot"] = n % slots
        else:
            period = DAY_MS if season == DAY else 7 * DAY_MS
            slot = (time_ms % period) * slots // period
            if n > 0 and elapsed_ms > 0:
                start = time_ms - elapsed_ms
                gap = step_ms if gap_ms[before] == 0.0 else int(gap_ms[before])
                by_step = ((start + step_ms) % period) * slots // period == slot
                by_gap = ((start + gap) % period) * slots // period == slot
                merit = (1.0 if by_gap else 0.0) - (1.0 if by_step else 0.0)
                row["gap_merit"] += (merit - row["gap_merit"]) / FORETELL
                gap_ms[before] = min(elapsed_ms, period)
            row["slot"] = slot


@kernel
def learn(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Keep what the slot had, then take in z. The ring of values must still end at the event before."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        n = event["n"]
        z = event["z"]
        last = row["slot_last"]
        apart = row["slot_apart"]
        visits = row["slot_visits"]
        foretold = row["slot_before"]
        values = row["values"]
        s = row["slot"]
        before = foretold[0]
        foretold[0] = last[s]
        foretold[1] = last[s] + apart[s]
        if visits[s] == 0:
            foretold[0] = z if n == 0 else values[(n - 1) % len(values)]
            foretold[1] = foretold[0]
        row["slot_shift"] = 0.0 if n == 0 else foretold[0] - before
        if row["season"] != NONE:
            mean = z if visits[s] == 0 else foretold[1]
            visits[s] = min(visits[s] + 1, 255)
            row["slot_moved"][s] = 0
            last[s] = z
            apart[s] = (1.0 - max(PROFILE_RATE, 1.0 / visits[s])) * (mean - z)


@kernel
def look_ahead(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Find where each span ahead falls, and what that slot last had and has on average."""
    spans = fixed[0]["spans"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        z = event["z"]
        time_ms = event["time_ms"]
        step_ms = event["step_ms"]
        naive = event["seasonal_ahead"]
        profile = event["profile_ahead"]
        target_slot = event["slot_ahead"]
        target_ms = event["time_ahead_ms"]
        last = row["slot_last"]
        apart = row["slot_apart"]
        visits = row["slot_visits"]
        gap_ms = row["slot_gap_ms"]
        slots = len(visits)
        season = row["season"]
        period = DAY_MS if season == DAY else 7 * DAY_MS
        at = time_ms
        slot = row["slot"]
        walked = 0
        for j in range(len(spans)):
            if season == NONE:
                slot = 0
            elif season == EVENTS or step_ms == 0:
                slot = (row["slot"] + spans[j]) % slots
            elif row["gap_merit"] <= BETTER:
                at = time_ms + spans[j] * step_ms
                slot = (at % period) * slots // period
            else:
                if walked > spans[j]:
                    at = time_ms
                    slot = row["slot"]
                    walked = 0
                while walked < spans[j]:
                    at += step_ms if gap_ms[slot] == 0.0 else int(gap_ms[slot])
                    slot = (at % period) * slots // period
                    walked += 1
            target_slot[j] = slot
            target_ms[j] = at
            naive[j] = last[slot] if visits[slot] > 0 else z
            profile[j] = last[slot] + apart[slot] if visits[slot] > 0 else z


@kernel
def move(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """The season's four forecasts as moves from z in horizon scales: sn, pf, and both shifts from today's."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        z = event["z"]
        foretold = row["slot_before"]
        scale = row["scale"]
        naive = event["seasonal_ahead"]
        profile = event["profile_ahead"]
        seasonal_move = event["seasonal_move"]
        profile_move = event["profile_move"]
        seasonal_shift = event["seasonal_shift_move"]
        profile_shift = event["profile_shift_move"]
        for j in range(len(seasonal_move)):
            seasonal_move[j] = 0.0
            profile_move[j] = 0.0
            seasonal_shift[j] = 0.0
            profile_shift[j] = 0.0
            if scale[j] > 0.0:
                seasonal_move[j] = min(max((naive[j] - z) / scale[j], -BOUND), BOUND)
                profile_move[j] = min(max((profile[j] - z) / scale[j], -BOUND), BOUND)
                seasonal_shift[j] = min(max((naive[j] - foretold[0]) / scale[j], -BOUND), BOUND)
                profile_shift[j] = min(max((profile[j] - foretold[1]) / scale[j], -BOUND), BOUND)


PART = Part(
    fields,
    fixed=lambda method: {"season": CODES[method.season]},
    indices=lambda method: {"slot": method.season_slots},
    follow=(move_level,),
    learn=(find_slot, learn),
    look_ahead=(look_ahead,),
    forecast=(move,),
)
