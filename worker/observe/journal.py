"""What happened to a worker lately, and when: weights that came into service or left it, and failures; bounded."""

import time
from typing import NamedTuple

MOST_MARKS = 1000  # of each kind: adoptions are many and must not push roll-backs out
MOST_ERRORS = 20
MOST_LETTERS = 500  # of one sentence


class Mark(NamedTuple):
    """Other weights in service from here on. `kind` is adopted or rolled_back."""

    time: int  # epoch milliseconds
    partition: int
    kind: str


class Trouble(NamedTuple):
    """A failure, and how often it came in the same words."""

    time: int  # of the last one, epoch milliseconds
    first: int
    number: int
    partition: int | None  # None: not of one partition
    error: str
    fix: str


class Journal:
    """Both tuples are replaced as a whole by the loop's thread, so that other threads may read them; oldest first."""

    def __init__(self) -> None:
        self.marks: tuple[Mark, ...] = ()
        self.errors: tuple[Trouble, ...] = ()

    def mark(self, partition: int, kind: str) -> None:
        """Note what came into service; it is committed."""
        same = [mark for mark in self.marks if mark.kind == kind]
        leaving = same[0] if len(same) >= MOST_MARKS else None
        self.marks = (*(mark for mark in self.marks if mark is not leaving), Mark(_now_ms(), partition, kind))

    def fail(self, error: str, fix: str, partition: int | None = None) -> None:
        """Note a failure in words, and what a person can do about it."""
        now, same = _now_ms(), (partition, error[:MOST_LETTERS], fix[:MOST_LETTERS])
        before = next((one for one in self.errors if one[3:] == same), None)
        others = tuple(one for one in self.errors if one is not before)
        latest = before._replace(time=now, number=before.number + 1) if before else Trouble(now, now, 1, *same)
        self.errors = (*others[-MOST_ERRORS + 1 :], latest)


def _now_ms() -> int:
    return round(time.time() * 1000)
