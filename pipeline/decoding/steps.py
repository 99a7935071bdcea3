"""How far apart the first events of streams are: where that is less than a second, the unit of times may be wrong.

Knows no season and no clock; a stream that really speaks that often is told apart by nobody but its owner.
"""

from collections.abc import Iterable
from statistics import median

# A unit that is a thousand times too small makes less than this of the steps up to a quarter of an hour that sensors
# have, and few streams that are forecast one event at a time speak so often
SHORT_MS = 1000
STREAMS, EACH = 100, 20  # that are looked at, and steps of each
FEW = 20  # steps, below which nothing is said
MOST_EVENTS = 200_000  # then nobody looks any more


class Steps:
    """Looks at the first steps of the first streams, in bounded memory; `open` until it has seen enough."""

    def __init__(self) -> None:
        self.open = True
        self._last: dict[str, int] = {}
        self._steps: dict[str, list[int]] = {}
        self._events = 0
        self._asked = False

    def take(self, names: Iterable[str], times_ms: Iterable[int]) -> None:
        """Look at events in the order in which they came. What goes back or stands still is no step."""
        for name, time_ms in zip(names, times_ms, strict=True):
            self._events += 1
            last = self._last.get(name)
            if last is None and len(self._last) < STREAMS:
                self._last[name], self._steps[name] = time_ms, []
            elif last is not None and time_ms > last and len(self._steps[name]) < EACH:
                self._steps[name].append(time_ms - last)
                self._last[name] = time_ms
        numbers = [len(steps) for steps in self._steps.values()]
        self.open = self._events < MOST_EVENTS and (sum(numbers) < FEW or min(numbers) < EACH)

    def doubt(self, field: str, ended: bool = False) -> str | None:
        """Return, once it has seen enough or no more events come, a sentence where steps are short; None later on.

        `field` is where messages have their times.
        """
        if self._asked or (self.open and not ended):
            return None
        self._asked = True
        steps = [step for each in self._steps.values() for step in each]
        if len(steps) < FEW or (typical := median(steps)) >= SHORT_MS:
            return None
        return (
            f"steps of {typical:g} ms: the first events of a stream are typically so far apart by the field {field!r} "
            "(events.time_field), or by the record's timestamp where it is absent: is the unit right? A number is "
            "taken as epoch seconds, ms, us or ns by its size: correct it where it is produced. Where they are right, "
            "such steps are forecast as any others"
        )
