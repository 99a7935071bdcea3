"""Times as people write them: ISO 8601, and epoch numbers told apart by size."""

import math
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def from_iso(text: str) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time (without a zone: UTC), rounded down; None where it is none.

    >>> from_iso("2013-01-01T06:00:00Z"), from_iso("1970-01-01"), from_iso("noon")
    (1357020000000, 0, None)
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // MILLISECOND


def from_epoch(number: float) -> int | None:
    """Milliseconds since 1970 of epoch seconds, ms, us or ns, told apart by size (seconds up to the year 5138).

    >>> from_epoch(1357020000), from_epoch(1357020000000), from_epoch(1357020000000000)
    (1357020000000, 1357020000000, 1357020000000000 // 1000)
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
