"""Times of a CSV that only its whole column explains: dates with slashes or of eight digits, hours with AM and PM."""

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial

from worker.backtest.columns import HistoryError

DIGITS = re.compile(r"\A((?:19|20)[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])\Z")
WRITTEN = re.compile(
    r"([0-9]{1,4})([/-])([0-9]{1,2})\2([0-9]{1,4})"  # a date
    r"(?:[ T]+([0-9]{1,2})((?::[0-9]{2}(?::[0-9.]+)?)|(?= *[AP]))(?: *([AP])\.?M\.?)?)?",  # hour, rest, AM or PM
    re.ASCII | re.IGNORECASE,
)
ORDERS = {"the year first": (0, 1, 2), "the month first": (2, 0, 1), "the day first": (2, 1, 0)}

Order = tuple[int, int, int]  # where year, month and day stand


def reader_of(first: str, column: Callable[[], Generator[tuple[int, str], None, None]]) -> Callable[[str], str]:
    """Return what makes ISO 8601 of a column's times, by the first of them; `column` has all, with their lines.

    Raises HistoryError where dates do not say which part is the month, or only some of the hours have AM or PM.
    """
    if DIGITS.match(first):  # a count of seconds may come past such digits
        return partial(DIGITS.sub, r"\1-\2-\3")
    match = WRITTEN.fullmatch(first)
    if match is None or (match[2] == "-" and match[7] is None):
        return str
    with closing(column()) as cells:
        return partial(_iso, _order_of(cells, match[2]), match[2])


def _order_of(column: Iterable[tuple[int, str]], separator: str) -> Order:
    left, example, halves = dict(ORDERS), "", None
    for line, text in column:
        match = WRITTEN.fullmatch(text)
        if match is None or match[2] != separator:
            continue
        example = example or text
        fitting = {words: order for words, order in left.items() if _fits(match, order)}
        if not fitting:
            raise HistoryError(
                f"line {line} has the time {text!r}, and those above have {' or '.join(left)}: write all as 2016-07-01"
            )
        left = fitting
        if match[5] is not None:
            half = match[7] is not None
            halves = half if halves is None else halves
            if half != halves or (half and not 1 <= int(match[5]) <= 12):
                hours = "hours of 1 to 12 with AM or PM" if halves else "hours without AM and PM"
                raise HistoryError(
                    f"line {line} has the time {text!r}, and those above have {hours}: write all as 2016-07-01T13:00"
                )
    if len(left) > 1:
        raise HistoryError(
            f"times such as {example!r} may have {' or '.join(left)}, and no line tells: write them as 2016-07-01"
        )
    return next(iter(left.values()))


def _fits(match: re.Match[str], order: Order) -> bool:
    year, month, day = (match.group(1, 3, 4)[place] for place in order)
    return len(year) == 4 and 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def _iso(order: Order, separator: str, text: str) -> str:
    match = WRITTEN.fullmatch(text)
    if match is None or match[2] != separator:
        return text
    year, month, day = (match.group(1, 3, 4)[place] for place in order)
    date = f"{year}-{month:0>2}-{day:0>2}"
    if match[5] is None:
        return date
    hour = int(match[5]) if match[7] is None else int(match[5]) % 12 + 12 * (match[7] in "pP")
    return f"{date}T{hour:02}{match[6] or ':00'}"
