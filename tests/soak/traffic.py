"""Events of a population that turns over: half of them of streams that stay, half of streams that come and go."""

import math
from dataclasses import dataclass

from tests.rigs.cluster import FIRST_MS, STEP_MS
from worker.refusal import Refusal

LIFE_S = 10.0  # of a stream that passes


@dataclass(frozen=True)
class Passing:
    """Streams that come and go: `width` at a time, each with `events` in its life."""

    width: int
    events: int

    @classmethod
    def of(cls, streams: float, rate: float, seconds: float) -> "Passing":
        """So many streams over so many seconds, at this rate of events of all kinds. Raises Refusal."""
        events = int(rate / 2 * seconds / streams)
        if events < 1:
            raise Refusal(
                f"{streams:,.0f} streams cannot pass in {rate / 2 * seconds:,.0f} events: "
                "fewer --streams or a higher --rate"
            )
        return cls(max(round(rate / 2 * LIFE_S / events), 1), events)


class Traffic:
    """A source of events; nothing is remembered by stream, and each stream's times increase."""

    def __init__(self, staying: int, partitions: int, passing: Passing | None = None) -> None:
        self.passing = passing
        self._staying, self._partitions = staying, partitions
        self._stayed = self._passed = 0

    @property
    def streams(self) -> int:
        """How many different ones there were."""
        passed = 0
        if self.passing is not None:
            cohort, within = divmod(self._passed, self.passing.width * self.passing.events)
            passed = cohort * self.passing.width + min(within, self.passing.width)
        return min(self._stayed, self._staying) + passed

    def next(self) -> tuple[int, bytes | None, bytes | None]:
        """Partition, key and value of a record."""
        if self.passing is None or self._stayed <= self._passed:
            turn, s = divmod(self._stayed, self._staying)
            self._stayed += 1
            return self._event(f"stays-{s}", s, turn)
        cohort, within = divmod(self._passed, self.passing.width * self.passing.events)
        turn, place = divmod(within, self.passing.width)
        self._passed += 1
        s = cohort * self.passing.width + place
        return self._event(f"passes-{s}", s, turn)

    def _event(self, name: str, s: int, turn: int) -> tuple[int, bytes, bytes]:
        value = 100 + s % 50 + 10 * math.sin(turn / 7 + s) + math.sin(turn * (s % 13 + 1) * 1.7)
        body = f'{{"stream": "{name}", "time": {FIRST_MS + turn * STEP_MS}, "value": {value:.3f}}}'
        return s % self._partitions, name.encode(), body.encode()
