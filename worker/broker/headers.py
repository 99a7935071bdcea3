"""Headers as text, and offsets in them: anybody may have written them, so nothing in them raises."""

from collections.abc import Sequence

OFFSET_DIGITS = 19  # of the largest offset there is


def texts(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return values by name: of two with one name the last, of none an empty one."""
    return {name: (value or b"").decode(errors="replace") for name, value in headers}


def offset_in(text: str) -> int | None:
    """Return the offset that a text is, None where it is none."""
    return int(text) if text.isdecimal() and len(text) <= OFFSET_DIGITS else None
