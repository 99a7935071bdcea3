"""Numbers as people write them: as text, as a sentinel that stands for none, within a range."""

import math
import re
from dataclasses import dataclass

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
SHOWN = 40  # characters of a text that is none


def from_text(text: str) -> float:
    """Return the number that a text is. Raises ValueError with a sentence.

    >>> from_text("3.5"), from_text(" -1e3 ")
    (3.5, -1000.0)
    """
    if NUMBER.fullmatch(text.strip()):
        return float(text)
    fix = "write a point in place of the comma" if "," in text else "send a number, or name it in events.missing_values"
    raise ValueError(f"{text[:SHOWN]!r} is no number: {fix}")


@dataclass(frozen=True)
class Numbers:
    """How numbers are read beyond what JSON calls one."""

    lenient: bool = False  # they may be text
    sentinels: frozenset[float | str] = frozenset()
    low: float = -math.inf
    high: float = math.inf

    @property
    def plain(self) -> bool:
        """Whether each number is taken as it comes."""
        return self == Numbers()

    def read(self, given: float | str) -> float | None:
        """Return the number, None where it is a sentinel. Raises ValueError with a sentence."""
        if given in self.sentinels:
            return None
        number = from_text(given) if isinstance(given, str) else given
        return None if number in self.sentinels else number
