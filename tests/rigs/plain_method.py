"""The method for one stream in plain NumPy, the whole past at hand: slow, float64, without rings or packed triangles.

It is what the kernels are held against. Every origin's memory is a dictionary; nothing is ever thrown away.
"""

from statistics import NormalDist
from typing import Any

import numpy as np

from pipeline.method import LOOKS, Method
from pipeline.network.cells import states
from pipeline.network.model import Network

DAY = 86_400_000


def clip(x: Any, c: float) -> Any:
    return np.clip(x, -c, c)


class Mean:
    """m += max(1/M, 1/count) (x - m); from the 21st on cut at `cut` m."""

    def __init__(self, memory: float, cut: float = np.inf) -> None:
        self.m, self.count, self.memory, self.cut = 0.0, 0, memory, cut

    def take(self, x: float) -> float:
        self.count += 1
        if self.count > 20 and self.m > 0:
            x = min(x, self.cut * self.m)
        self.taken = x
        self.m += max(1 / self.memory, 1 / self.count) * (x - self.m)
        return self.m


class Least:
    """Recursive least squares; an origin's gain may be used later."""

    def __init__(self, size: int, horizons: int, forget: float, start: float) -> None:
        self.P, self.W, self.forget, self.size = start * np.eye(size), np.zeros((horizons, size)), forget, size

    def see(self, x: np.ndarray, guard: bool) -> np.ndarray:
        px = self.P @ x
        gain = px / (self.forget + px @ x)
        self.P = (self.P - np.outer(gain, px)) / self.forget
        self.P = (self.P + self.P.T) / 2
        if guard:
            self.P *= min(1, 100 * self.size / np.trace(self.P))
        return gain


class Season:
    """Slots, their memory, and where time goes from one to the next."""

    def __init__(self, kind: str, slots: int) -> None:
        self.asked, self.kind, self.S = kind, "day" if kind == "auto" else kind, slots
        self.votes: list[str] = []
        self.forget()

    def forget(self) -> None:
        self.last: dict[int, float] = {}
        self.old: set[int] = set()
        self.mean: dict[int, float] = {}
        self.visits: dict[int, int] = {}
        self.gap: dict[int, float] = {}
        self.merit = 0.0

    def at(self, ms: int, n: int) -> int:
        if self.kind == "none":
            return 0
        if self.kind == "events":
            return n % self.S
        period = DAY if self.kind == "day" else 7 * DAY
        return int(ms % period * self.S // period)

    def settle(self, n: int, ms: int, elapsed: int, step: int) -> None:
        if self.asked == "auto":
            if elapsed > 0 and len(self.votes) < 20:
                self.votes.append("day" if elapsed < 0.75 * DAY else "week" if elapsed < 5 * DAY else "none")
            kind = max(("day", "week", "none"), key=self.votes.count)
            if kind != self.kind:
                self.forget()
                self.kind = kind
        before = getattr(self, "slot", 0)
        self.slot = self.at(ms, n)
        if self.kind in ("day", "week") and n > 0 and elapsed > 0:
            start = ms - elapsed
            by_step = self.at(start + step, n) == self.slot
            by_gap = self.at(start + int(self.gap.get(before, step)), n) == self.slot
            self.merit += (int(by_gap) - int(by_step) - self.merit) / 200
            self.gap[before] = min(elapsed, DAY if self.kind == "day" else 7 * DAY)

    def learn(self, z: float, before: float) -> None:
        s = self.slot
        self.prev, self.pprev = self.last.get(s, before), self.mean.get(s, before)
        if self.kind != "none":
            self.last[s] = z
            self.old.discard(s)
            self.visits[s] = self.visits.get(s, 0) + 1
            self.mean[s] = self.mean.get(s, z) + max(0.1, 1 / self.visits[s]) * (z - self.mean.get(s, z))

    def move(self, by: float, back: bool) -> None:
        """The table goes to another level; last values that came since the break do not go back."""
        if not back:
            self.old = set(self.last)
        self.last = {s: v + by * (s in self.old) for s, v in self.last.items()}
        self.mean = {s: v + by for s, v in self.mean.items()}
        self.prev, self.pprev = self.prev + by, self.pprev + by

    def ahead(self, n: int, ms: int, step: int, h: int) -> tuple[int, int]:
        """Slot and time."""
        if self.kind == "none":
            return 0, ms
        if self.kind == "events" or step == 0:
            return (self.slot + h) % self.S, ms
        if self.merit <= 0.01:
            return self.at(ms + h * step, n), ms + h * step
        for _ in range(h):
            ms += int(self.gap.get(self.at(ms, n), step))
        return self.at(ms, n), ms


class Fine:
    """The day in parts of the stream's own step, as whole numbers of a unit."""

    def __init__(self) -> None:
        self.parts, self.streak, self.unit, self.code = 0, 0, 0.0, dict[int, int]()

    def settle(self, ms: int, step: int, slots: int, z: float, s: float) -> None:
        wanted = min(round(DAY / step), 1440)
        known = self.parts if self.unit > 0 else 0
        self.streak = self.streak + 1 if s > 0 and wanted >= 1.5 * max(known, slots) else 0
        if self.streak == 20:
            self.parts, self.streak, self.code = wanted, 0, {}
            self.begun, self.base = ms - DAY // wanted // 2, z
            self.most = 32_766 if wanted <= 720 else 126
            self.unit = float(np.float32(s / (64 if wanted <= 720 else 8)))

    def value(self, i: int) -> float:
        return self.base + self.code[i] * self.unit

    def at(self, ms: int) -> float | None:
        """Between the middles of the part and the nearer neighbour."""
        x = (ms - self.begun) % DAY * self.parts / DAY
        i = int(x)
        if i not in self.code:
            return None
        k = (i + (1 if x - i > 0.5 else -1)) % self.parts
        return self.value(i) + abs(x - i - 0.5) * ((self.value(k) if k in self.code else self.value(i)) - self.value(i))

    def learn(self, z: float, ms: int, elapsed: int, step: int, spread: float) -> None:
        since, x = ms - self.begun, (ms - self.begun) % DAY * self.parts / DAY
        i = int(x)
        foretold, days = self.at(ms), since // DAY
        mean = z
        if foretold is not None:
            rate = max(0.1, 1 / (days + 1)) * min(1, self.parts * step / DAY)
            mean = self.value(i) + rate * clip(z - foretold, 4 * spread)
        fits = abs(mean - self.base) < self.most * self.unit
        if not fits or days != (since - elapsed) // DAY:
            values = {k: self.value(k) for k in self.code}
            low, high = min([mean, *values.values()]), max([mean, *values.values()])
            needed = 0.75 * (high - low)
            unit = needed / self.most
            if np.float32(unit) > 0 and not (fits and 2 * needed > self.most * self.unit):
                self.base = (low + high) / 2
                self.code = {k: int(np.rint((v - self.base) / unit)) for k, v in values.items()}
                self.unit = float(np.float32(unit))
        up = 0.5 if self.parts <= 720 else (0.6180339887498949 * days + 0.7548776662466927 * i + x) % 1
        if self.unit > 0:
            self.code[i] = int(np.floor((mean - self.base) / self.unit + up))


class Drift:
    """What a horizon promised lately and what came of it, in the units of z, and what is left of its moves."""

    def __init__(self) -> None:
        self.Y = self.P = self.V = self.D = self.D2 = self.M = self.evidence = self.usual = 0.0
        self.left, self.least, self.labels = 1.0, 1.0, 0

    def take(self, y: float, m: float, c: float, s: float) -> None:
        if s == 0 or (m * y < 0 and abs(y) > 2 * abs(m)):
            return
        self.Y += (y * c - self.Y) / 6
        self.P += (m * c - self.P) / 6
        short = self.Y - self.P
        if self.labels <= 100:
            self.V += ((short / s) ** 2 - self.V) / self.labels
        elif short * self.P < 0 and self.left > 0.5:
            self.V += (min(short**2, self.P**2) / s**2 - self.V) / 500

    def judge(self, move: float, s: float, near: list["Drift"]) -> None:
        """`near` ends with this one."""
        M = self.M = move
        self.D += (M - self.D) / 48
        self.D2 += (M**2 - self.D2) / 48
        steady = self.D * M > 0 and self.D**2 > 0.85 * self.D2
        self.usual = self.V * s**2  # for all of this event
        near = [d for d in near if d.M * M > 0 and d.labels > 100 and d.usual > 0]
        known = self in near and steady and self.P * M > 0
        self.evidence = self.P * (self.P / 2 - self.Y) / self.usual if known else 0.0
        over = [d for d in near if steady and d.evidence > 3]
        before = self.left
        if over:
            self.left = min(before, *(1 - min(d.evidence - 3, 1) * (1 - max(d.Y / d.P, 0)) for d in over))
        elif before < 1:
            changes = [d.M * (d.Y - before * d.M) / (d.usual + d.M**2) for d in near]
            self.left = float(np.clip(before + (max(0, *changes) + min(0, *changes)) / 6, 0, 1)) if near else before
            if before <= 0.5 < self.left:
                self.V = max(self.V, M**2 / 4 / s**2)
        if abs(M) > 3 * abs(self.D):
            self.left = 1.0
        self.least = min(self.least, self.left)  # so far


class Plain:
    """One stream."""

    def __init__(self, method: Method, network: Network) -> None:
        m = self.m = method
        self.net, self.hs, Z = network, list(m.horizons), len(m.horizons)
        self.anew = False
        self.z: list[float] = []
        self.moved: list[float] = []
        self.broke_at, self.broke_by, self.doubt, self.trust = 0, 0.0, 0.0, 0.5
        self.broke_moved = self.broke_back = False
        self.runs = True
        self.origin: list[dict[str, Any]] = []
        self.times: list[int] = []
        self.season = Season(m.season, m.season_slots)
        self.week: dict[int, float] = {}
        self.week_here = np.nan
        self.fine, self.lasting = Fine(), np.full((Z, 2), 5.0)
        spans = m.spans.tolist()
        self.q1, self.qh = Mean(500, 64), {h: Mean(500, 64) for h in spans}
        self.m5, self.v5, self.m2, self.mS = Mean(500), Mean(500), Mean(200), Mean(m.season_slots)
        self.unit2, self.rho, self.suspect, self.below = 0.0, 0.75, None, False
        self.hidden = np.zeros((1, m.layers, states(m.cell), m.hidden_size), np.float32)
        F = 9 + len(m.fractions) + 6 + m.has_week
        self.A = Least(F, Z, 0.999, 1.0)
        self.Ac = Least(F + 2 * len(m.covariates), Z, 0.999, 1.0)
        self.columns = 6 + m.has_week + m.has_companion
        self.K = [Least(self.columns + 1, 1, 0.9998, 0.1) for _ in self.hs]
        for k in self.K:
            k.W[0, 0] = 1
        E = 5 if m.full else 4
        self.L, self.L0 = np.zeros(Z), np.zeros(Z)
        self.drifts = [Drift() for _ in self.hs]
        self.R, self.V = np.zeros((Z, E)), np.full((Z, E), 1e-6)
        self.reach, self.scale = dict.fromkeys(spans, 0.0), np.zeros(Z)
        self.sigma, self.lately, self.D, self.labels = np.zeros(Z), np.zeros(Z), np.zeros(Z), np.zeros(Z, int)
        self.u = [dict.fromkeys(range(m.season_slots), 1.0) for _ in self.hs]
        self.v, self.unrest, self.sizes = np.zeros(Z), list[float](), [Mean(span) for span in (10, 50, 500)]
        self.follows, self.known_of = np.full(Z, 0.7 if m.full else 0.0), np.full(Z, 5.0)
        normal = NormalDist()
        self.tau = np.array(m.quantiles)
        self.q = np.tile([1.25 * normal.inv_cdf(t) for t in m.quantiles], (Z, 1))
        self.gap = np.diff(self.q[0])
        self.g = np.array([0.0013 / normal.pdf(normal.inv_cdf(t)) for t in m.quantiles])
        C = len(m.covariates)
        self.cov, self.covmean, self.cov2, self.covn = np.zeros(C), np.zeros(C), np.zeros(C), np.zeros(C, int)

    # ---- one event

    def take(self, ms: int, raw: float, given: tuple[float, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
        if not self.anew and 2 <= len(self.z) <= 20:
            before, change = abs(self.z[-1] - self.z[-2]), abs(raw - self.z[-1])
            if 0 < 1000 * change < before:
                times = self.times
                self.__init__(self.m, self.net)  # type: ignore[misc]
                self.times, self.anew = times, True
        n, gaps = len(self.z), np.diff(self.times)
        self.times.append(ms)
        elapsed = ms - self.times[-2] if len(self.times) > 1 else -1
        step = int(np.median(np.append(gaps, elapsed)[-5:])) if elapsed >= 0 else 0
        z = self.hold(raw, elapsed <= 3 * step, step)
        self.below |= z < self.m.least
        base = raw if self.rho == 0.75 else z
        self.season.settle(n, ms, elapsed, step)
        self.score(n, z, raw)
        self.learn(n, z, ms, elapsed, step)
        return self.forecast(n, z, base, ms, step, self.covariates(given))

    def hold(self, raw: float, soon: bool, step: int) -> float:
        if not self.z:
            return raw
        n, last, rho, s = len(self.z), self.z[-1], self.rho, np.sqrt(self.q1.m + 1e-10 * self.unit2)
        least = (10 if rho <= 0.7 and self.trust > 0.5 else 12) * s
        slots = self.season.S
        coarse = step > 0 and min(round(DAY / step), 1440) < 1.5 * slots
        moves = self.m.full and (self.season.kind != "day" or coarse) and n > max(240, 2 * slots)
        far, held, suspect, broke, mended, taken = abs(raw - last) > least, 0, self.suspect, 0.0, False, False
        self.suspect, ago = None, n - self.broke_at
        returns = abs(raw - (last - self.broke_by)) < 0.5 * abs(raw - last)
        if suspect:
            odd, before, count = suspect
            stays = abs(raw - odd) < 0.3 * abs(odd - before)
            if moves and soon and 0 < count < 3 and abs(raw - before) > 2 * least and (self.runs or not stays):
                held = count + 1
            last = before
            if not held:
                self.rho += 0.2 * (min(max((raw - odd) / (before - odd), 0), 1) - rho)
                if moves and stays and count:
                    self.runs, broke = returns and ago <= 3, odd - before
                mended = not count and not stays and ago == 1
        elif returns and far and ago <= 24 and rho <= 0.7:
            mended = True
            if ago <= 3:
                self.runs = True
                self.rho += 0.2 * (1 - rho)
        elif n > 20 and soon and far and least > 0:
            held, taken = int(rho > 0.7), rho <= 0.7
            broke = raw - last if taken and moves else 0.0
        if held or taken:
            self.suspect = (raw, last, held)
        if self.fine.parts or self.weekly(broke, 1 if taken else 4, step):
            broke = 0.0
        self.follow(float(np.float32(broke)), mended, taken)
        return self.z[-1] if held else raw

    def weekly(self, jump: float, events: int, step: int) -> bool:
        """Whether the week's table has a jump like this one of the last events, there or three steps later."""
        now, before = self.times[-1], self.times[-2] - (events - 1) * step
        told = [self.week.get(self.week_slot(ms), np.nan) for ms in (before, now, now + 3 * step)]
        return self.m.has_week and any(abs(jump - (after - told[0])) < 0.5 * abs(jump) for after in told[1:])

    def follow(self, jump: float, mended: bool, taken: bool) -> None:
        n, season, h, by, age = len(self.z), self.season, self.hs[0], self.broke_by, len(self.z) - self.broke_at
        above = self.z[-1] - (self.m5.m if season.kind == "none" else season.pprev)
        origin = self.origin[n - h] if n >= h else None
        foreseen = origin["moved"][0] * origin["c"][0] if taken and origin else 0.0
        lasts = by != 0 and age <= 96
        moved = lasts and self.broke_moved
        home = jump != 0 and abs(above + jump) <= 0.5 * abs(above)
        back = abs(jump + by) < abs(jump) / 8 or (home and not self.broke_moved) or (mended and age > 1)
        back = back and by != 0
        if back:
            self.trust -= self.trust / (3 if lasts else 8)
        large = jump != 0 and not (lasts and abs(jump) <= 0.5 * abs(by))
        if large and abs(jump - foreseen) > 0.5 * abs(jump) and not home and not (back and moved):
            self.broke_at, self.broke_by, self.broke_back, self.doubt = n, jump, back, 0.0
            self.broke_moved = self.trust > 0.5 or (self.trust == 0.5 and (not taken or moved))
            if self.broke_moved:
                self.move(jump, n, back=False)
        elif back:
            if moved:
                self.move(-by, n, back=False)
            self.broke_by = 0.0
        elif lasts:
            old = above + by * moved
            self.doubt += (float(abs(old) < 0.5 * abs(old - by)) - self.doubt) / 6
            if mended or self.doubt > 0.6:
                self.trust -= self.trust / 3
                if moved:
                    self.move(-by, self.broke_at, back=True)
                self.broke_by = 0.0
            elif age == 48 and not self.broke_back:
                self.trust += (1 - self.trust) / 3

    def move(self, by: float, since: int, back: bool) -> None:
        """All that is remembered goes to another level, but for values that came since."""
        for o in range(since):
            self.z[o] += by
            self.moved[o] += by
        for mean in (self.m5, self.m2, self.mS):
            mean.m += by
        self.season.move(by, back)
        self.week = {s: v + by for s, v in self.week.items()}

    def week_slot(self, ms: int) -> int:
        return int(ms % (7 * DAY) * 7 * self.m.season_slots // (7 * DAY))

    def score(self, n: int, z: float, raw: float) -> None:
        first: float | None = None
        for j, h in enumerate(self.hs):
            if n < h:
                continue
            o, zo, slot = self.origin[n - h], self.z[n - h] - self.moved[n - h], self.season.slot
            e = z - zo - o["said"][j] * o["c"][j]
            self.labels[j] += 1
            if not o["unsure"][j]:
                w = self.band(n, h, j, e, raw - z, o["width"][j], slot)
                if j == 0:
                    first = w
                if n - h >= h and o["width"][j] > 0:
                    self.D[j] += (clip((self.off - abs(z - zo)) / o["c"][j], 8) - self.D[j]) / 500
            if o["c"][j] == 0:
                continue
            self.drifts[j].labels += 1
            label = (z - self.z[n - h]) / o["c"][j]
            y = clip(label, 4)
            if self.m.full:
                for expert, phi, gain in ((self.A, "phi", "gain"), (self.Ac, "phic", "gainc")):
                    expert.W[j] += o[gain] * (y - expert.W[j] @ o[phi])
                k, x = self.K[j], o["X"][j]
                miss = y - k.W[0] @ x
                k.W[0] += k.see(x, guard=True) * miss
                away, shifted = o["away"][j], o["X"][j][4]
                if away and abs(label) < 4 and abs(shifted) < 4:
                    self.lasting[j] += away * np.array([label - shifted + away, away]) - self.lasting[j] / 500
            if o["unsure"][j]:
                continue
            if y:
                self.L[j] += ((y - clip(o["M"][j], 4)) ** 2 - self.L[j]) / (12 + h)
                self.L0[j] += (y * y - self.L0[j]) / (12 + h)
            self.drifts[j].take(y, o["M"][j], o["c"][j], np.sqrt(self.q1.m + 1e-10 * self.unit2))
            keep = 1 - 1 / (500 + 20 * (h - 1))
            r = clip(2 * (o["M"][j] - label), 4) * clip(o["E"][j] - o["M"][j], 4)
            self.R[j] = keep * self.R[j] - r
            self.V[j] = keep * self.V[j] + r * r
        self.restless(n, first)

    def restless(self, n: int, size: float | None) -> None:
        """How large the shortest horizon's errors are lately beside what is usual."""
        labels, means = n - self.hs[0] + 1, self.sizes
        least = 0.02 * self.scale[0] if labels > 1 else 0.0
        if size is not None:
            if labels > 20:
                size = min(size, 8 * max(means[2].m, least))
            for mean in means:
                mean.count = labels - 1
                mean.take(size)
        short, middle, usual = (max(mean.m, least) for mean in means)
        self.unrest.append(float(np.clip((0.6 * short + 0.4 * middle) / usual, 0.4, 5)) if usual > 0 else 1.0)

    def factor(self, j: int, slot: int) -> float:
        """u', as far as its spread is more than chance."""
        chance = 0.05 / 1.95 * min(self.labels[j] / 1000, 1)
        return 1 + (max(0, 1 - chance / self.v[j]) if self.v[j] > 0 else 0) * (self.u[j][slot] - 1)

    def band(self, n: int, h: int, j: int, e: float, held: float, width: float, slot: int) -> float:
        q, count, middle = self.q[j], self.labels[j], len(self.tau) // 2
        if n - h >= h and width > 0:
            self.off = abs(e - q[middle] * width)
            d = np.abs(np.diff(q)) / self.gap
            step = self.g * np.clip(2000 / count, 1, 1 + 5 / h) * np.maximum(1, np.insert(d, middle, 0))
            step[middle] = max(step[middle], min(0.1, 2 / count))
            self.q[j] += step * (self.tau - ((e + held) / width <= q))
        least, slots = 0.02 * self.scale[j] * (count > 1), self.m.season_slots
        apart = self.unrest[n - h] - 1
        f = 1 + self.follows[j] * apart
        size, share = abs(e) / f, 1.0
        self.sigma[j] = max(self.sigma[j], least) if count > 1 else 0.0
        self.lately[j] = max(self.lately[j], least) if count > 1 else 0.0
        recent = size
        if self.sigma[j] > 0:
            rate = max(0.05, 1 / (count / slots + 10))
            self.u[j][slot] += rate * (min(size / self.sigma[j], 6) - self.u[j][slot])
            self.v[j] += max(1 / 500, 1 / count) * ((self.u[j][slot] - 1) ** 2 - self.v[j])
            share = np.clip(self.factor(j, slot), 0.5, 1.2)
            recent = size = size / share
            if count > 20:
                if self.m.full:
                    x = apart / f
                    self.known_of[j] += x**2 - (self.known_of[j] - 5) / 500
                    self.follows[j] += x * (min(size / self.sigma[j], 8) - 1) / self.known_of[j]
                    self.follows[j] = np.clip(self.follows[j], 0, 1.1)
                size, recent = min(size, 8 * self.sigma[j]), min(size, 3 * max(self.sigma[j], self.lately[j]))
        self.lately[j] += max(1 / (30 + 3 * h), 1 / count) * (recent - self.lately[j])
        self.sigma[j] += max(1 / 200, 1.5 / (count + 0.5)) * (size - self.sigma[j])
        return float(abs(e) / share)

    def learn(self, n: int, z: float, ms: int, elapsed: int, step: int) -> None:
        before_prev = getattr(self.season, "prev", 0.0)
        self.season.learn(z, self.z[-1] if self.z else z)
        self.known = False
        if self.m.full and self.season.kind == "day" and step > 0:
            self.refine(z, ms, elapsed, step)
        self.shift = self.season.prev - before_prev if n else 0.0
        self.week_here = np.nan
        if self.season.kind in ("day", "week"):
            s = self.week_slot(ms)
            self.week_here = self.week.get(s, np.nan)
            self.week[s] = self.week.get(s, z) + 0.25 * (z - self.week.get(s, z))
        deviation = z - self.m5.m if n else 0.0
        self.m5.take(z)
        self.v5.take(deviation**2)
        self.m2.take(z)
        self.mS.take(z)
        self.z.append(z)
        self.moved.append(0.0)
        if n:
            d2 = (z - self.z[-2] + self.moved[-2]) ** 2
            self.unit2 = min(self.unit2 or d2, d2 or self.unit2)
            self.q1.take(d2)
        for h, q in self.qh.items():
            if n >= h:
                q.take((z - self.z[n - h] + self.moved[n - h]) ** 2)
                self.reach[h] = max(self.reach[h], np.sqrt(q.taken))

    def refine(self, z: float, ms: int, elapsed: int, step: int) -> None:
        season, fine, floor = self.season, self.fine, 1e-10 * self.unit2
        fine.settle(ms, step, season.S, z, np.sqrt(self.q1.m + floor) if len(self.z) > 1 else 0.0)
        if not fine.parts:
            return
        if season.visits[season.slot] > 1:
            rate = min(max(0.1, 2 * season.S / fine.parts), 1.0)
            season.mean[season.slot] = z + (1 - rate) * (season.pprev - z)
        foretold = fine.at(ms)
        fine.learn(z, ms, elapsed, step, np.sqrt(self.v5.m + floor))
        if foretold is not None:
            self.known, season.prev, season.pprev = True, season.pprev, foretold

    def covariates(self, given: tuple[float, ...]) -> np.ndarray:
        out = []
        for c, value in enumerate(given):
            change = 0.0
            if not np.isnan(value):
                self.covn[c] += 1
                rate = max(1 / 200, 1 / self.covn[c])
                if self.covn[c] > 1:
                    change = value - self.cov[c]
                    self.cov2[c] += rate * (change**2 - self.cov2[c])
                self.covmean[c] += rate * (value - self.covmean[c])
                self.cov[c] = value
            s = np.sqrt(self.cov2[c])
            out += [clip(change / s, 6), clip((self.cov[c] - self.covmean[c]) / s, 20) / 3] if s > 0 else [0, 0]
        return np.array(out)

    def forecast(
        self, n: int, z: float, base: float, ms: int, step: int, cov: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        m, floor, ahead = self.m, 1e-10 * self.unit2, self.season.ahead
        scale = {h: np.sqrt((q.m if q.count else h * self.q1.m) + floor) if n else 0.0 for h, q in self.qh.items()}
        s, sd = (np.sqrt(self.q1.m + floor), np.sqrt(self.v5.m + floor)) if n else (0.0, 0.0)
        there = {h: ahead(n, ms, step, h) for h in scale}
        sn = {h: self.season.last.get(slot, z) for h, (slot, _) in there.items()}
        pf = {h: self.season.mean.get(slot, z) for h, (slot, _) in there.items()}
        prev, pprev = self.season.prev, self.season.pprev
        if self.known:
            sn = pf
            pf = {h: pf[h] if (p := self.fine.at(there[h][1])) is None else p for h in there}
        d = [self.z[-1 - i] - self.z[-2 - i] if n > i else 0.0 for i in range(3)]
        day, week = 2 * np.pi * (ms % DAY) / DAY, 2 * np.pi * (ms % (7 * DAY)) / (7 * DAY)
        time = [f(x) for x in (day, 2 * day, week) for f in (np.sin, np.cos)]

        def over(values: list[float], unit: float, bound: float) -> list[float]:
            return [float(clip(v / unit, bound)) if unit > 0 else 0.0 for v in values]

        ks = list(m.fractions)
        own, own_1 = (pprev, pf[1]) if self.known else (prev, sn[1])
        phi = [1.0, *over(d, s, 6), *over([own_1 - own, self.shift], s, 6)]
        phi += over([z - self.m2.m, z - self.mS.m, z - own], s, 20) + over([pf[k] - z for k in ks], s, 20) + time
        if m.has_week:
            after = self.week_slot(there[1][1])
            weekly = self.week.get(after, np.nan) - self.week_here if after != self.week_slot(ms) else 0.0
            phi += over([0.0 if np.isnan(weekly) else weekly], s, 20)
        x = over([d[0]], s, 6) + over([z - self.m5.m], sd, 6) + over([sn[1] - prev], s, 6)
        x += over([z - prev, z - self.mS.m], sd, 6) + [v for k in LOOKS for v in over([pf[k] - z], scale[k], 6)] + time
        change, self.hidden = self.net.step(np.array([x], np.float32), self.hidden)
        phi_, phic = np.array(phi), np.concatenate([phi, cov])
        o: dict[str, Any] = {"phi": phi_, "phic": phic, "N": change[0].astype(float)}
        self.scale = o["c"] = np.array([scale[h] for h in self.hs])
        A, Ac = clip(self.A.W @ phi_, 32), clip(self.Ac.W @ phic, 32)
        o["gain"], o["gainc"] = (e.see(p, guard=n % 50 == 0) for e, p in ((self.A, phi_), (self.Ac, phic)))
        for name in ("X", "E", "M", "said", "width", "away"):
            o[name] = []
        for j, h in enumerate(self.hs):
            season = over([sn[h] - z, pf[h] - z, sn[h] - prev, pf[h] - pprev], scale[h], 1e6)
            away = season[3] - season[1] if self.known else 0.0
            o["away"].append(away if abs(away) < 4 else 0.0)
            if self.known:
                season[1] += np.clip(self.lasting[j, 0] / self.lasting[j, 1], 0, 1) * away
                self.reach[h] = max(self.reach[h], abs(season[1]) * scale[h])
            said = [A[j], *season, o["N"][j]]
            if m.has_week:
                slot = self.week_slot(there[h][1])
                known = self.season.kind in ("day", "week")
                said += over([self.week.get(slot, z) - z if known else 0.0], scale[h], 1e6)
            said += [Ac[j]] * m.has_companion
            X = np.append(clip(np.array(said), 4), 0.3)
            waits = clip(np.array([o["N"][j], self.K[j].W[0] @ X]), 32) * min(self.drifts[j].labels / min(h, 255), 1)
            E = np.array([0.0, *season[:2], *waits])[: self.R.shape[1]]
            E = clip(E, max(self.reach[h] / scale[h], 2) if scale[h] > 0 else 2)
            eta = np.minimum(1, np.sqrt(np.log(len(E)) / self.V[j]))
            w = eta * np.exp(eta * self.R[j] - (eta * self.R[j]).max()) * np.where(np.arange(len(E)), 1, 4)
            sigma, lately = max(self.sigma[j], 0.02 * scale[h]), max(self.lately[j], 0.02 * scale[h])
            r = lately / sigma if sigma > 0 else 1.0
            sigma += min(((r - 1 / r) / 0.8) ** 2, 1) * (lately - sigma)
            sigma *= 1 + self.follows[j] * (self.unrest[n] - 1)
            width = sigma * max(self.factor(j, there[h][0]), 0.05) if n >= h else 0.8 * scale[h]
            M = w @ E / w.sum()
            guard = np.clip(2 - self.L[j] / (2 * self.L0[j] + 1e-30), 0, 1)
            if m.full:
                self.drifts[j].judge(M * scale[h], s, [self.drifts[k] for k in range(j + 1) if 4 * self.hs[k] >= h])
            for name, value in zip(("X", "E", "M", "said", "width"), (X, E, M, guard * M, width), strict=True):
                o[name].append(value)
        least = -np.inf if self.below else self.m.least
        lowest = [(least - z) / c if c > 0 else -np.inf for c in o["c"]]
        o["said"] = np.maximum(o["said"], lowest) * [d.left if self.m.full else 1.0 for d in self.drifts]
        self.origin.append(o)
        o["unsure"] = np.full(len(self.hs), base != z)
        o["moved"] = np.maximum(o["said"] + (base - z) / np.where(o["c"] > 0, o["c"], np.inf), lowest)
        mean = np.maximum(base + np.array(o["said"]) * o["c"], least)
        width = np.where(o["c"] > 0, o["width"], 0)
        bands = mean[:, None] + np.sort(self.q, axis=1) * width[:, None]
        k, last = len(self.tau) // 2, len(self.tau) - 1
        bands[:, k] += clip(20 * self.D, 1) * (self.D > 0) * (base - bands[:, k])
        if last:
            bands[:, k] = np.clip(bands[:, k], bands[:, k - 1], bands[:, k + 1])
        return mean, np.maximum(bands, least)
