"""The day in as many parts as the stream's own step makes of it, where slots are longer: the profile of such a stream.

    F = day / step parts, 1,440 at most, from the 20th step in a row on that asks for 1.5 times as many as there are,
        once there is a step scale
    p(t) from the part f[i] that t is in and the nearer of its neighbours: linear between the middles of parts
    f[i] += max(0.1, 1/days) share clip(z_t - p(t), 4 sd),  share = min(1, F step / day);  z_t if never seen
    once f[i] was seen: pprev = p(t), pf_h = p(t+h) (the slot's if never seen), and of the slots the mean takes the
        place of the last value, with rate min(max(0.1, 2 slots / F), 1): sn_h and prev are about those of a day ago
    the expert is pf_h + a (z_t - pprev), a the slope of what was left of such a difference when the label came:
        u = (z_o - pprev(o)) / c,  A += u (z_t - pf_h(o)) / c - A/500,  B += u^2 - B/500,  a = clip(A/B, 0..1)

A part has two bytes, or one where there are more than 720: a number of units above a base. Single bytes are rounded up
or down by turns, so that small changes are not lost. Unit and base are chosen anew where a value has no place, and once
a day where half the room would do.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts import experts
from pipeline.parts.part import Part
from pipeline.parts.season import DAY, DAY_MS, PROFILE_RATE
from pipeline.parts.stack import CLIP

BYTES = 1_440
MIDDLE = (0, 128, 32_768)  # the base's code, by bytes of a part; others are from 1 to one less than twice that
FINER = 1.5  # times as many parts are worth beginning anew
STREAK = 20  # steps in a row that must agree
UNIT = (0.0, 1 / 8, 1 / 64)  # the first one, in step scales
ROOM = 1.5  # times the values' range
SURPRISE = 4.0  # deviations: no part moves by more
START = 5.0  # of A and B
MEMORY = 500.0  # labels
TURN = 0.6180339887498949  # of the rounding, a day
TURN_PART = 0.7548776662466927  # a part


def fields(method: Method) -> list[Field]:
    """The table, its grid in time, and what its codes stand for."""
    return [
        ("fine", "u1", (BYTES,)),  # f, the high byte first; 0: never seen
        ("fine_begun_ms", "i8"),  # half a part before the event that began it: the middles are where events are
        ("fine_base", "f8"),
        ("fine_unit", "f4"),
        ("fine_parts", "i2"),  # F; 0: none yet
        ("fine_streak", "u1"),
        ("fine_lasting", "f4", (len(method.horizons), 2)),  # A, B
        ("fine_away", method.ring, (method.pending_size,)),  # u; 0: none, or too large
    ]


def initialise(_method: Method, row: np.void) -> None:
    """Let differences last at first."""
    row["fine_lasting"][:] = START


@kernel
def stay(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Let no level break where the day has fine parts: they do not move."""
    for b in range(len(events)):
        if rows[events[b]["row"]]["fine_parts"] > 0:
            events[b]["broke"] = 0.0


@kernel
def settle(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Settle how many parts there are, and find the event's."""
    slots = fixed[0]["slots"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        time_ms = event["time_ms"]
        step_ms = event["step_ms"]
        parts = row["fine_parts"]
        event["fine"] = False
        event["fine_place"] = -1.0
        if row["season"] != DAY or step_ms <= 0:
            continue
        wanted = min(int(np.rint(DAY_MS / step_ms)), BYTES)
        known = parts if row["fine_unit"] > 0.0 else 0
        finer = row["step_scale"] > 0.0 and wanted >= FINER * max(known, slots)
        row["fine_streak"] = row["fine_streak"] + 1 if finer else 0
        if row["fine_streak"] == STREAK:
            parts = wanted
            row["fine_parts"] = parts
            row["fine_streak"] = 0
            row["fine"][:] = 0
            row["fine_begun_ms"] = time_ms - DAY_MS // parts // 2
            row["fine_base"] = event["z"]
            row["fine_unit"] = row["step_scale"] * UNIT[2 if 2 * parts <= BYTES else 1]
        if parts > 0:
            event["fine_place"] = (time_ms - row["fine_begun_ms"]) % DAY_MS * parts / DAY_MS


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Keep what the parts foretold, and find what the event's part is to be (`fine_mean`)."""
    slots = fixed[0]["slots"]
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        z = event["z"]
        x = event["fine_place"]
        if x < 0.0:
            continue
        table = row["fine"]
        parts = row["fine_parts"]
        size = 2 if 2 * parts <= BYTES else 1
        foretold = row["slot_before"]
        s = row["slot"]
        if row["slot_visits"][s] > 1:
            row["slot_apart"][s] = (1.0 - min(max(PROFILE_RATE, 2.0 * slots / parts), 1.0)) * (foretold[1] - z)
        i = int(x)
        code = int(table[i]) if size == 1 else table[2 * i] * 256 + table[2 * i + 1]
        mean = z
        if code > 0:
            event["fine"] = True
            mean = row["fine_base"] + (code - MIDDLE[size]) * row["fine_unit"]
            row["slot_shift"] += foretold[1] - foretold[0]
            foretold[0] = foretold[1]
            foretold[1] = mean
            k = (i + (1 if x - i > 0.5 else parts - 1)) % parts
            code = int(table[k]) if size == 1 else table[2 * k] * 256 + table[2 * k + 1]
            if code > 0:
                beside = row["fine_base"] + (code - MIDDLE[size]) * row["fine_unit"]
                foretold[1] += abs(x - i - 0.5) * (beside - mean)
            days = (event["time_ms"] - row["fine_begun_ms"]) // DAY_MS
            rate = max(PROFILE_RATE, 1.0 / (days + 1.0)) * min(1.0, parts * event["step_ms"] / DAY_MS)
            bound = SURPRISE * row["spread"]
            mean += rate * min(max(z - foretold[1], -bound), bound)
        event["fine_mean"] = mean


@kernel
def fit(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Choose base and unit anew where the part's new value has no place, or half of the room would do."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        if event["fine_place"] < 0.0:
            continue
        table = row["fine"]
        parts = row["fine_parts"]
        size = 2 if 2 * parts <= BYTES else 1
        mean = event["fine_mean"]
        room = (MIDDLE[size] - 2) * row["fine_unit"]
        fits = abs(mean - row["fine_base"]) < room
        since_ms = event["time_ms"] - row["fine_begun_ms"]
        if fits and since_ms // DAY_MS == (since_ms - event["elapsed_ms"]) // DAY_MS:
            continue
        low = mean
        high = mean
        for i in range(parts):
            code = int(table[i]) if size == 1 else table[2 * i] * 256 + table[2 * i + 1]
            if code > 0:
                value = row["fine_base"] + (code - MIDDLE[size]) * row["fine_unit"]
                low = min(low, value)
                high = max(high, value)
        needed = ROOM * (high - low) / 2.0
        unit = needed / (MIDDLE[size] - 2)
        if (fits and 2.0 * needed > room) or np.float32(unit) == 0.0:
            continue
        base = (low + high) / 2.0
        for i in range(parts):
            code = int(table[i]) if size == 1 else table[2 * i] * 256 + table[2 * i + 1]
            if code > 0:
                value = row["fine_base"] + (code - MIDDLE[size]) * row["fine_unit"]
                code = int(np.rint((value - base) / unit)) + MIDDLE[size]
                table[size * i] = code if size == 1 else code // 256
                table[size * i + size - 1] = code % 256
        row["fine_base"] = base
        row["fine_unit"] = unit


@kernel
def keep(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Put the part's new value into the table."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        if event["fine_place"] < 0.0 or row["fine_unit"] == 0.0:
            continue
        table = row["fine"]
        size = 2 if 2 * row["fine_parts"] <= BYTES else 1
        i = int(event["fine_place"])
        days = (event["time_ms"] - row["fine_begun_ms"]) // DAY_MS
        up = (TURN * days + TURN_PART * i + event["fine_place"]) % 1.0 if size == 1 else 0.5
        code = int(np.floor((event["fine_mean"] - row["fine_base"]) / row["fine_unit"] + up)) + MIDDLE[size]
        table[size * i] = code if size == 1 else code // 256
        table[size * i + size - 1] = code % 256


@kernel
def look_ahead(rows: Rows, events: Events, _fixed: Fixed) -> None:
    """Put what the parts ahead have in place of what the slots have."""
    for b in range(len(events)):
        event = events[b]
        row = rows[event["row"]]
        if not event["fine"]:
            continue
        table = row["fine"]
        parts = row["fine_parts"]
        begun_ms = row["fine_begun_ms"]
        base = row["fine_base"]
        unit = row["fine_unit"]
        naive = event["seasonal_ahead"]
        profile = event["profile_ahead"]
        target_ms = event["time_ahead_ms"]
        size = 2 if 2 * parts <= BYTES else 1
        for j in range(len(naive)):
            naive[j] = profile[j]
            x = (target_ms[j] - begun_ms) % DAY_MS * parts / DAY_MS
            i = int(x)
            code = int(table[i]) if size == 1 else table[2 * i] * 256 + table[2 * i + 1]
            if code > 0:
                profile[j] = base + (code - MIDDLE[size]) * unit
                k = (i + (1 if x - i > 0.5 else parts - 1)) % parts
                code = int(table[k]) if size == 1 else table[2 * k] * 256 + table[2 * k + 1]
                if code > 0:
                    profile[j] += abs(x - i - 0.5) * (base + (code - MIDDLE[size]) * unit - profile[j])


@kernel
def learn_lasting(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Learn from labels how much was left of what z was above the profile."""
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
    indices=lambda _method: {"fine_parts": BYTES + 1},
    arrive=(stay,),
    learn=(settle, learn, fit, keep, learn_lasting),
    look_ahead=(look_ahead,),
    forecast=(move,),
)
