"""Times as people write them: ISO 8601, and epoch numbers told apart by size; digits that are neither are named."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DAY_MS = 86_400_000
YEAR_MS = 366 * DAY_MS
DIGITS = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)
DECIMAL = re.compile(r"\s*[+-]?[0-9]{1,19}\.[0-9]*\s*", re.ASCII)
MIDNIGHT = re.compile(r"(.{10}[T ])24(:00(:00(\.0+)?)?(?![:0-9.]).*)")
MONTH = re.compile(r"[0-9]{4}-[0-9]{2}", re.ASCII)
DATE = re.compile(r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])(([01][0-9]|2[0-3])([0-5][0-9]){0,2})?")
YEARS, SHEET_DAYS, UPTIME = range(1900, 2101), range(15_000, 80_000), range(10**9)


@dataclass(frozen=True)
class Times:
    """How times are read: `zone` of texts without one, epochs from `earliest_ms` on, and in text where `lenient`."""

    zone: tzinfo = UTC
    earliest_ms: float = -math.inf
    lenient: bool = False

    def from_text(self, text: str) -> int:
        """Return milliseconds since 1970. Raises ValueError with a sentence."""
        time_ms = from_iso(text, self.zone)
        if time_ms is not None and text[4:5] == "-":  # nothing else is written so
            return time_ms
        if time_ms is None or not DATE.fullmatch(text):
            if DIGITS.fullmatch(text) or DECIMAL.fullmatch(text):
                return self._number_in(text)
            if time_ms is None:
                raise ValueError(f"{text!r} is neither ISO 8601 nor epoch seconds, ms, us or ns")
        if time_ms < self.earliest_ms:
            raise ValueError(f"{text!r} would be {shown(time_ms)}, {self._before}: write it with dashes")
        return time_ms

    def _number_in(self, text: str) -> int:
        if not self.lenient:
            raise ValueError(f'{text!r} is a number in text: send a number, or set events.numbers = "lenient"')
        return self.from_number(int(text) if DIGITS.fullmatch(text) else float(text))

    def from_number(self, number: float) -> int:
        """Return milliseconds since 1970. Raises ValueError with a sentence."""
        time_ms = from_epoch(number)
        if time_ms is None:
            raise ValueError(f"{number!r} is neither ISO 8601 nor epoch seconds, ms, us or ns")
        if time_ms < self.earliest_ms:
            raise ValueError(f"{number!r} as an epoch is {shown(time_ms)}, {self._before}{likely(number)}")
        return time_ms

    @property
    def _before(self) -> str:
        return f"before events.earliest ({shown(math.floor(self.earliest_ms))[:10]})"


def from_iso(text: str, zone: tzinfo = UTC) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time, rounded down; None where it is none. Without a zone it is in `zone`.

    Of an hour that comes twice it is the first; a time that a change of clocks left out is as much later.

    >>> from_iso("2013-01-01T06:00:00Z"), from_iso("1970-01"), from_iso("1969-12-31 24:00 UTC"), from_iso("noon")
    (1357020000000, 0, 0, None)
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        other = _other(text)
        if other is None:
            return None
        moment = other
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    since = moment - EPOCH  # taken apart below: to divide an interval takes longer
    return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000


def _other(text: str) -> datetime | None:
    """Return a time that ISO 8601 or its readers also allow: a month, the end of a day, a zone that is called UTC."""
    plain = f"{text[:-4]}+00:00" if text.endswith(" UTC") else text
    if MONTH.fullmatch(plain):
        plain += "-01"
    midnight = MIDNIGHT.fullmatch(plain)
    try:
        moment = datetime.fromisoformat(f"{midnight[1]}00{midnight[2]}" if midnight else plain)
        return moment + timedelta(days=1) if midnight else moment
    except (ValueError, OverflowError):
        return None


def from_epoch(number: float) -> int | None:
    """Milliseconds since 1970 of epoch seconds, ms, us or ns, told apart by size (seconds up to the year 5138).

    >>> from_epoch(1357020000), from_epoch(1357020000000), from_epoch(1357020000000000)
    (1357020000000, 1357020000000, 1357020000000)
    """
    size = abs(number)
    if size < 1e11:
        return math.floor(number * 1000)
    if size < 1e14:
        return math.floor(number)
    if size < 1e17:
        return math.floor(number / 1000) if isinstance(number, float) else number // 1000
    if size < 1e19:
        return math.floor(number / 1_000_000) if isinstance(number, float) else int(number) // 1_000_000
    return None


def likely(given: float | str) -> str:
    """Return what a number that is no epoch may be, and the fix, as the end of a sentence; empty where none is known.

    >>> likely(20160701), likely(42552)[:42], likely(-5)
    (': it looks like a date of 8 digits, write it as 2016-07-01', ": it looks like a spreadsheet's day number", '')
    """
    digits = str(given).strip()
    if DATE.fullmatch(digits):
        parts = [digits[:4], digits[4:6], digits[6:8]]
        return f": it looks like a date of {len(digits)} digits, write it as {'-'.join(parts)}{_clock(digits[8:])}"
    try:
        number = float(given)
    except ValueError:
        return ""
    if number in YEARS:
        return f": it looks like a year, write it as {number:.0f}-01-01"
    if SHEET_DAYS.start <= number < SHEET_DAYS.stop:
        return ": it looks like a spreadsheet's day number, write it as a date, such as 2016-07-01"
    if 0 <= number < UPTIME.stop:
        return ": it looks like a clock that was never set or seconds since a start; if it is right, set that earlier"
    return ""


def _clock(digits: str) -> str:
    pairs = [digits[i : i + 2] for i in range(0, len(digits), 2)]
    return f"T{':'.join([*pairs, '00'][: max(2, len(pairs))])}" if pairs else ""


def shown(time_ms: int) -> str:
    """Return a time for people, where Python's calendar has it."""
    try:
        return (EPOCH + time_ms * MILLISECOND).strftime("%Y-%m-%d %H:%M UTC")
    except OverflowError:
        return "beyond the calendar"
