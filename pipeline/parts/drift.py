"""The guard of drifts: of a move that has long led to one side, no more is published than labels lately say is left.

M is the mixture's move over h events before its guard, in the units of z, m the same at a label's origin, y the label
in these units, cut at 4 horizon scales:

    when a label arrives, not over 2 |m| to the other side: Y <- EW(y, 6), P <- EW(m, 6)
        V, the usual square of Y - P, in squares of the step scale s: its mean over the first 100 labels; then, where
        Y falls short of P and left > 1/2, V <- EW(min((Y - P)^2, P^2) / s^2, 500)
    D <- EW(M, 48), D2 <- EW(M^2, 48);  steady: D M > 0 and D^2 > 0.85 D2
    of the horizons k from h/4 to h whose move has this one's sign:
        evidence e_k that a drift is over: P_k (P_k/2 - Y_k)/(V_k s^2), where k and h are steady and P_k M_k > 0
        where some e_k > 3: left <- the least of left and 1 - min(e_k - 3, 1) (1 - max(Y_k/P_k, 0))
        else left += g/6, g the largest and the smallest, with 0, of M_k (Y_k - left M_k)/(V_k s^2 + M_k^2), added up;
            V s^2 is at least M^2/4 from where left passes 1/2
    left = 1 where |M| > 3 |D|: that is another promise;  left is 1 at first, and never below 0 or above 1
    withheld: the share 1 - left of what the mixture's guard has left

Labels far ahead take h events to tell that a trend has ended, those of the horizons below tell it sooner, and tell as
soon that it goes on. Regressions learn for a hundred events and more that it has ended.
"""

import numpy as np

from pipeline.arrays import Events, Field, Fixed, Floats, Rows
from pipeline.compiled import kernel
from pipeline.method import Method
from pipeline.parts.mixture import CLIP
from pipeline.parts.part import Part

MEMORY = 6.0  # labels
LONG = 48.0  # events over which a move is steady
STEADY = 0.85
FIRST = 100  # labels before which nothing is judged
USUAL = 500.0  # labels
MOST = 3e38  # step scales
JUMP = 2.0  # times the move, to the other side: such a label is a jump's
NEAR = 4  # a label of a quarter of the horizon counts for it
ODDS, SURE = 3.0, 1.0  # evidence, as logarithm of odds, from which on a drift is over, and so much more: surely
SLOW = 6.0  # events in which what is left follows the labels
ANOTHER = 3.0  # times the mean move: another promise


def fields(method: Method) -> list[Field]:
    """Six numbers per horizon; squares are kept as their roots, so that no unit is too large for float32."""
    z = len(method.horizons)
    return [
        ("drift_lately", "f4", (z, 2)),  # Y, P
        ("drift_usual", "f4", (z,)),  # root of V
        ("drift_mean", "f4", (z, 2)),  # D, root of D2
        ("drift_over", "f4", (z,)),  # 1 - left
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
        step = np.float64(row["step_scale"])
        for j in range(len(horizons)):
            place = start[j] + n % horizons[j]
            if np.isnan(label[j]) or width[place] < 0.0 or step == 0.0:
                continue
            share = withheld[place] / root
            move = published[place] + share * abs(share) * CLIP
            y = min(max(label[j], -CLIP), CLIP)
            if move * y < 0.0 and abs(y) > JUMP * abs(move):
                continue
            came = lately[j, 0] + (y * np.float64(unit[place]) - lately[j, 0]) / MEMORY
            promised = lately[j, 1] + (move * np.float64(unit[place]) - lately[j, 1]) / MEMORY
            lately[j, 0] = came
            lately[j, 1] = promised
            labels = row["pending_labels"][j]
            usual2 = np.float64(usual[j]) ** 2
            short = ((came - promised) / step) ** 2
            if labels <= FIRST:
                usual2 += (short - usual2) / labels
            elif (came - promised) * promised < 0.0 and row["drift_over"][j] < 0.5:
                usual2 += (min(short, (promised / step) ** 2) - usual2) / USUAL
            usual[j] = min(np.sqrt(usual2), MOST)


@kernel
def judge(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Find what is left of each horizon's drift."""
    horizons = fixed[0]["horizons"]
    move = np.empty(len(horizons))
    usual2 = np.empty(len(horizons))  # 0: not known yet
    evidence = np.empty(len(horizons))
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        step = np.float64(row["step_scale"])
        lately = row["drift_lately"]
        mean = row["drift_mean"]
        over = row["drift_over"]
        for j in range(len(horizons)):
            move[j] = events[b]["whole_move"][j] * row["scale"][j]
            usual2[j] = (row["drift_usual"][j] * step) ** 2 if row["pending_labels"][j] > FIRST else 0.0
            drift = mean[j, 0] + (move[j] - mean[j, 0]) / LONG
            size2 = np.float64(mean[j, 1]) ** 2
            size2 += (move[j] ** 2 - size2) / LONG
            mean[j, 0] = drift
            mean[j, 1] = np.sqrt(size2)
            steady = drift * move[j] > 0.0 and drift**2 > STEADY * size2
            promised = np.float64(lately[j, 1])
            evidence[j] = 0.0
            if steady and usual2[j] > 0.0 and promised * move[j] > 0.0:
                evidence[j] = promised * (promised / 2 - lately[j, 0]) / usual2[j]
            before = 1.0 - over[j]
            left, least, up, down = before, 1.0, 0.0, 0.0
            for k in range(j + 1):
                if NEAR * horizons[k] < horizons[j] or move[k] * move[j] <= 0.0 or usual2[k] == 0.0:
                    continue
                came = np.float64(lately[k, 0])
                if steady and evidence[k] > ODDS:
                    sure = min((evidence[k] - ODDS) / SURE, 1.0)
                    least = min(least, 1.0 - sure * (1.0 - max(came / lately[k, 1], 0.0)))
                change = move[k] * (came - before * move[k]) / (usual2[k] + move[k] ** 2)
                up, down = max(up, change), min(down, change)
            if least < 1.0:
                left = min(before, least)
            elif before < 1.0:
                left = min(max(before + (up + down) / SLOW, 0.0), 1.0)
                if before <= 0.5 < left:
                    row["drift_usual"][j] = min(max(np.float64(row["drift_usual"][j]), abs(move[j]) / step / 2), MOST)
            over[j] = 1.0 - left if abs(move[j]) <= ANOTHER * abs(drift) else 0.0


@kernel
def withhold(rows: Rows, events: Events, fixed: Fixed) -> None:
    """Withhold the rest, and put it into the mixture's ring."""
    horizons = fixed[0]["horizons"]
    start = fixed[0]["start"]
    root = fixed[0]["root"]
    for b in range(len(events)):
        row = rows[events[b]["row"]]
        n = events[b]["n"]
        whole = events[b]["whole_move"]
        published = events[b]["mixed_move"]
        share = row["drift_over"]
        for j in range(len(horizons)):
            if share[j] > 0.0:
                published[j] *= 1.0 - share[j]
                rest = min(max(whole[j] - published[j], -CLIP), CLIP)
                code = np.copysign(np.rint(np.sqrt(abs(rest) / CLIP) * root), rest)
                row["mixture_withheld"][start[j] + n % horizons[j]] = code


def shares(row: np.void, method: Method) -> Floats:
    """(Z,) what it left of each horizon's move in a row's last forecast."""
    left: Floats = 1.0 - row["drift_over"].astype(np.float64) if method.full else np.ones(len(method.horizons))
    return left


PART = Part(fields, takes_part=lambda method: method.full, learn=(learn,), forecast=(judge, withhold))
