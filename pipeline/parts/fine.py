"""The day in parts of the stream's own step, where that is shorter than a slot: up to 1,440 of them, for a profile.

    F = day / step parts, 1,440 at most; at the 20th step in a row that asks for half as many parts again, F is settled
    f[part] <- EW(z, max(0.1, 1/days) / events of a part), in whole numbers of a unit above a base
    where the event's own part was seen: prev = pprev = f[part(t)],  pf_h = f[part(t+h)],
        sn_h = pf_h + what z was above f when slot(t+h) was last left

Up to 720 parts have 16 bits each, more of them 8, rounded up or down by turns so that what is rounded away is not lost.
The unit grows where a value does not fit. What was never seen is the slot's. The mixture has the profile shifted
from today's in place of the profile: a level that moves does so at once.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import experts
from pipeline.parts.part import Part
from pipeline.parts.season import DAY, DAY_MS, PROFILE_RATE
from pipeline.parts.stack import CLIP

BYTES = 1_440  # one or two for each part
MIDDLE = (0, 128, 32_768)  # the code of the base, by bytes of a part; from 1 to one less than twice that, 0: never seen
FINER = 1.5  # times as many parts are worth beginning anew
STREAK = 20  # steps in a row that must agree
UNIT = 1 / 8  # step scales, of 8 bits
WIDE_UNIT = 1 / 64  # of 16
ROOM = 1.5  # times the values' range, when the unit is chosen anew
START = 5.0  # of both sums
MEMORY = 500.0  # labels
TURN = 0.6180339887498949  # of the rounding, a day
TURN_PART = 0.7548776662466927  # a part


def fields(method: Method) -> list[Field]:
    """The table, its grid in time, and what its codes stand for."""
    return [
        ("fine", "u1", (BYTES,)),
        ("fine_begun_ms", "i8"),  # half a part before the event at which it was begun
        ("fine_base", "f8"),
        ("fine_unit", "f4"),
        ("fine_parts", "i2"),  # F; 0: none yet
        ("fine_streak", "u1"),
        ("fine_lasting", "f4", (len(method.horizons), 2)),  # sums of labels by differences, and of their squares
        ("fine_away", method.ring, (method.pending_size,)),  # what waits: z - pprev in horizon scales, 0 unknown
    ]


def initialise(_method: Method, row: np.void) -> None:
    """Let differences last at first."""
    row["fine_lasting"][:] = START


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Settle how many parts there are, keep what the event's part had in place of the slot's, then take in z."""
    slots = fixed[0]["slots"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        z = event["z"]
        time_ms = event["time_ms"]
        step_ms = event["step_ms"]
        table = row["fine"]
        event["fine"] = False
        if row["season"] != DAY or step_ms <= 0:
            continue
        parts = row["fine_parts"]
        wanted = min(int(np.rint(DAY_MS / step_ms)), BYTES)
        row["fine_streak"] = row["fine_streak"] + 1 if wanted >= FINER * max(parts, slots) else 0
        if row["fine_streak"] == STREAK:
            parts = wanted
            row["fine_streak"] = 0
            row["fine_parts"] = parts
            row["fine_begun_ms"] = time_ms - DAY_MS // parts // 2
            row["fine_base"] = z
            row["fine_unit"] = row["step_scale"] * (WIDE_UNIT if 2 * parts <= BYTES else UNIT)
            table[:] = 0
        if parts == 0:
            continue
        size = 2 if 2 * parts <= BYTES else 1
        middle = MIDDLE[size]
        begun_ms = row["fine_begun_ms"]
        days = (time_ms - begun_ms) // DAY_MS
        i = (time_ms - begun_ms) % DAY_MS * parts // DAY_MS
        code = int(table[i]) if size == 1 else table[2 * i] * 256 + table[2 * i + 1]
        mean = z
        if code > 0:
            event["fine"] = True
            foretold = row["slot_before"]
            mean = row["fine_base"] + (code - middle) * row["fine_unit"]
            row["slot_shift"] += mean - foretold[0]
            foretold[:] = mean
            share = min(1.0, parts * step_ms / DAY_MS)
            mean += max(PROFILE_RATE, 1.0 / (days + 1.0)) * share * (z - mean)
        if not abs(mean - row["fine_base"]) < (middle - 2) * row["fine_unit"]:
            low = mean
            high = mean
            for k in range(parts):
                code = int(table[k]) if size == 1 else table[2 * k] * 256 + table[2 * k + 1]
                if code > 0:
                    kept = row["fine_base"] + (code - middle) * row["fine_unit"]
                    low = min(low, kept)
                    high = max(high, kept)
            base = (low + high) / 2.0
            unit = max(row["fine_unit"], ROOM * (high - base) / (middle - 2))
            for k in range(parts):
                code = int(table[k]) if size == 1 else table[2 * k] * 256 + table[2 * k + 1]
                if code > 0:
                    kept = row["fine_base"] + (code - middle) * row["fine_unit"]
                    code = int(np.rint((kept - base) / unit)) + middle
                    if size == 1:
                        table[k] = code
                    else:
                        table[2 * k] = code // 256
                        table[2 * k + 1] = code % 256
            row["fine_base"] = base
            row["fine_unit"] = unit
        if row["fine_unit"] > 0.0:
            turn = (TURN * days + TURN_PART * i) % 1.0 if size == 1 else 0.5
            code = int(np.floor((mean - row["fine_base"]) / row["fine_unit"] + turn)) + middle
            if size == 1:
                table[i] = code
            else:
                table[2 * i] = code // 256
                table[2 * i + 1] = code % 256


@kernel
def look_ahead(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Put what the parts ahead have in place of what the slots have."""
    slots = fixed[0]["slots"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        parts = row["fine_parts"]
        if not event["fine"]:
            continue
        table = row["fine"]
        begun_ms = row["fine_begun_ms"]
        base = row["fine_base"]
        unit = row["fine_unit"]
        last = row["slot_last"]
        visits = row["slot_visits"]
        naive = event["seasonal_ahead"]
        profile = event["profile_ahead"]
        target_slot = event["slot_ahead"]
        target_ms = event["time_ahead_ms"]
        size = 2 if 2 * parts <= BYTES else 1
        for j in range(len(naive)):
            i = (target_ms[j] - begun_ms) % DAY_MS * parts // DAY_MS
            code = int(table[i]) if size == 1 else table[2 * i] * 256 + table[2 * i + 1]
            if code > 0:
                profile[j] = base + (code - MIDDLE[size]) * unit
                naive[j] = profile[j]
                s = target_slot[j]
                if s == row["slot"]:
                    naive[j] += event["z"] - row["slot_before"][1]
                elif visits[s] > 0:
                    left_ms = ((s + 1) * DAY_MS) // slots - 1
                    i = (left_ms - begun_ms) % DAY_MS * parts // DAY_MS
                    code = int(table[i]) if size == 1 else table[2 * i] * 256 + table[2 * i + 1]
                    if code > 0:
                        naive[j] += last[s] - (base + (code - MIDDLE[size]) * unit)


@kernel
def learn_lasting(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Learn from labels how much of what z was above the profile is left."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    unit = fixed[0]["stack_unit"]
    column = fixed[0]["shifted_column"]
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        label = events[b]["label"]
        lasting = row["fine_lasting"]
        away = row["fine_away"]
        inputs = row["stack_inputs"]
        for j in range(len(horizons)):
            place = start[j] + n % horizons[j]
            u = away[place] / unit
            shifted = inputs[place, column] / unit
            if u != 0.0 and abs(label[j]) < CLIP and abs(shifted) < CLIP:
                lasting[j, 0] += u * (label[j] - shifted + u) - lasting[j, 0] / MEMORY
                lasting[j, 1] += u * u - lasting[j, 1] / MEMORY


@kernel
def move(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Shift the profile's forecast by what is left of today's difference, and let moves reach as far as it goes."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    unit = fixed[0]["stack_unit"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        reach = row["reach"]
        scale = row["scale"]
        lasting = row["fine_lasting"]
        away = row["fine_away"]
        own = event["profile_move"]
        shifted = event["profile_shift_move"]
        for j in range(len(own)):
            place = start[j] + event["n"] % horizons[j]
            away[place] = 0
            if event["fine"]:
                u = shifted[j] - own[j]
                if abs(u) < CLIP:
                    away[place] = np.rint(u * unit)
                own[j] += min(max(lasting[j, 0] / lasting[j, 1], 0.0), 1.0) * u
                reach[j] = max(reach[j], abs(own[j]) * scale[j])


PART = Part(
    fields,
    initialise,
    fixed=lambda method: {"shifted_column": experts.stacked(method).index("profile_shift")},
    takes_part=lambda method: method.full,
    learn=(learn, learn_lasting),
    look_ahead=(look_ahead,),
    forecast=(move,),
)
