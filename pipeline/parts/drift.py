"""The guard of drifts: a move that has long led to one side is withheld once labels are nearer to none than to it.

M is the mixture's move over h events before its guard, in the units of z, m the same at a label's origin, y the label:

    D <- EW(M, 24), D2 <- EW(M^2, 24);  steady = D^2/D2 where D and M have one sign, else 0
    when a label arrives, not 0 and not over 3 |m| to the other side: Y <- EW(y, 6), P <- EW(m, 6)
        V, the usual square of Y - P: its mean over the first 100 labels; then, where Y falls short of P and over < 1/2,
        V <- EW(min((Y - P)^2, P^2), 500)
    evidence that it is over: P (P/2 - Y)/V where P and M have one sign, times clip((steady - 0.85)/0.1, 0..1); or that
        of a horizon of h/4 or more, below h, whose M has this one's sign, times the same
    over = clip((evidence - 3)/2, 0..1) where that is more than it was
    without evidence, by what comes: over -= clip(M (Y - M/2)/V, 0..8)/64; V += M^2/4 where it falls below 1/2 so
    over = 0 where |M| > 3 |D|: that is another promise
    withheld: the share over clip((steady - 0.4)/0.2, 0..1) of what the mixture's guard has left

Labels far ahead take h events to tell that a trend has ended; those of the horizons below tell it sooner. Regressions
then learn for a hundred events and more that it has, so what is over stays so until labels say that it goes on.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Floats, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.mixture import CLIP
from pipeline.parts.part import Part

MEMORY = 6.0  # labels
LONG = 24.0  # events over which a move is steady
FIRST = 100  # labels before which nothing is judged
USUAL = 500.0  # labels
JUMP = 3.0  # times the move, to the other side: such a label is a jump's
NEAR = 4  # a label of a quarter of the horizon counts for it
STRICT, LOOSE = (0.85, 0.1), (0.4, 0.2)  # steadiness and width, of evidence and of what is withheld
ODDS, SURE = 3.0, 2.0  # evidence, as logarithm of odds, from which on it is over, and so much more: wholly
ALIVE = 8.0  # no event has more evidence than this that a drift goes on
REGAIN = 64.0  # evidence that takes back what is withheld wholly
ANOTHER = 3.0  # times the mean move: another promise


def fields(method: Method) -> list[Field]:
    """Seven numbers per horizon; squares are kept as their roots, so that no unit is too large for float32."""
    z = len(method.horizons)
    return [
        ("drift_lately", "f4", (z, 2)),  # Y, P
        ("drift_usual", "f4", (z,)),  # root of V
        ("drift_mean", "f4", (z, 2)),  # D, root of D2
        ("drift_over", "f4", (z,)),
        ("drift_share", "f4", (z,)),  # withheld of the last moves
    ]


@kernel
def learn(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Take in what came of what was promised."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    root = fixed[0]["root"]
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        label = events[b]["label"]
        width = row["pending_width"]
        published = row["pending_move"]
        withheld = row["mixture_withheld"]
        unit = row["pending_unit"]
        lately = row["drift_lately"]
        usual = row["drift_usual"]
        over = row["drift_over"]
        for j in range(len(horizons)):
            place = start[j] + n % horizons[j]
            if np.isnan(label[j]) or width[place] < 0.0:
                continue
            share = withheld[place] / root
            move = published[place] + share * abs(share) * CLIP
            y = min(max(label[j], -CLIP), CLIP)
            if y == 0.0 or (move * y < 0.0 and abs(y) > JUMP * abs(move)):
                continue
            came = lately[j, 0] + (y * np.float64(unit[place]) - lately[j, 0]) / MEMORY
            promised = min(max(move, -CLIP), CLIP) * np.float64(unit[place])
            promised = lately[j, 1] + (promised - lately[j, 1]) / MEMORY
            lately[j, 0] = came
            lately[j, 1] = promised
            labels = n - horizons[j] + 1
            usual2 = np.float64(usual[j]) ** 2
            short = (came - promised) ** 2
            if labels <= FIRST:
                usual2 += (short - usual2) / labels
            elif (came - promised) * promised < 0.0 and over[j] < 0.5:
                usual2 += (min(short, promised**2) - usual2) / USUAL
            usual[j] = np.sqrt(usual2)


@kernel
def judge(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Find which drifts are over, and the share of each horizon's move that is withheld."""
    horizons = fixed[0]["horizons"]
    evidence = np.empty(len(horizons))
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        whole = events[b]["whole_move"]
        scale = row["scale"]
        lately = row["drift_lately"]
        usual = row["drift_usual"]
        mean = row["drift_mean"]
        over = row["drift_over"]
        withheld = row["drift_share"]
        for j in range(len(horizons)):
            move = whole[j] * scale[j]
            drift = mean[j, 0] + (move - mean[j, 0]) / LONG
            size2 = np.float64(mean[j, 1]) ** 2
            size2 += (move**2 - size2) / LONG
            mean[j, 0] = drift
            mean[j, 1] = np.sqrt(size2)
            steady = drift**2 / size2 if drift * move > 0.0 and size2 > 0.0 else 0.0
            strict = min(max((steady - STRICT[0]) / STRICT[1], 0.0), 1.0)
            came = np.float64(lately[j, 0])
            promised = np.float64(lately[j, 1])
            usual2 = np.float64(usual[j]) ** 2
            known = n - horizons[j] >= FIRST and usual2 > 0.0
            evidence[j] = 0.0
            if known and strict > 0.0 and promised * move > 0.0:
                evidence[j] = max(promised * (promised / 2 - came), 0.0) / usual2 * strict
            most = evidence[j]
            if strict > 0.0:
                for k in range(j):
                    if NEAR * horizons[k] >= horizons[j] and whole[k] * move > 0.0:
                        most = max(most, evidence[k] * strict)
            if most > 0.0:
                over[j] = max(over[j], min(max((most - ODDS) / SURE, 0.0), 1.0))
            elif over[j] > 0.0 and known:
                before = over[j]
                over[j] = max(before - min(max(move * (came - move / 2) / usual2, 0.0), ALIVE) / REGAIN, 0.0)
                if over[j] < 0.5 <= before:
                    usual[j] = np.sqrt(usual2 + move**2 / 4)
            if abs(move) > ANOTHER * abs(drift):
                over[j] = 0.0
            withheld[j] = over[j] * min(max((steady - LOOSE[0]) / LOOSE[1], 0.0), 1.0)


@kernel
def withhold(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Withhold it, and put the rest of the mixture's move into the ring."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    root = fixed[0]["root"]
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        whole = events[b]["whole_move"]
        published = events[b]["mixed_move"]
        share = row["drift_share"]
        for j in range(len(horizons)):
            if share[j] > 0.0:
                published[j] *= 1.0 - share[j]
                rest = min(max(whole[j] - published[j], -CLIP), CLIP)
                code = np.copysign(np.rint(np.sqrt(abs(rest) / CLIP) * root), rest)
                row["mixture_withheld"][start[j] + n % horizons[j]] = code


def shares(row: np.void, method: Method) -> Floats:
    """(Z,) what it left of each horizon's move in a row's last forecast."""
    left: Floats = 1.0 - row["drift_share"].astype(np.float64) if method.full else np.ones(len(method.horizons))
    return left


PART = Part(fields, takes_part=lambda method: method.full, learn=(learn,), forecast=(judge, withhold))
