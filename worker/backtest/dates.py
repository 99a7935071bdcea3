"""Times of a CSV that only its whole column explains: dates with slashes, and dates of eight digits."""

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial

from worker.backtest.columns import HistoryError

DIGITS = re.compile(r"\A((?:19|20)[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])\Z")
SLASHED = re.compile(r"([0-9]{1,4})/([0-9]{1,2})/([0-9]{1,4})(?:[ T]+([0-9]{1,2})(:[0-9]{2}(?::[0-9.]+)?))?", re.ASCII)
ORDERS = {"the year first": (0, 1, 2), "the month first": (2, 0, 1), "the day first": (2, 1, 0)}

Order = tuple[int, int, int]  # where year, month and day stand


def reader_of(first: str, column: Callable[[], Generator[tuple[int, str], None, None]]) -> Callable[[str], str]:
    """Return what makes ISO 8601 of a column's times, by the first of them; `column` has all, with their lines.

    Raises HistoryError where dates with slashes do not say which part is the month.
    """
    if DIGITS.match(first):  # a count of seconds may come past such digits
        return partial(DIGITS.sub, r"\1-\2-\3")
    if not SLASHED.fullmatch(first):
        return str
    with closing(column()) as cells:
        return partial(_iso, _order_of(cells))


def _order_of(column: Iterable[tuple[int, str]]) -> Order:
    left, example = dict(ORDERS), ""
    for line, text in column:
        match = SLASHED.fullmatch(text)
        if match is None:
            continue
        example = example or text
        fitting = {words: order for words, order in left.items() if _fits(match, order)}
        if not fitting:
            raise HistoryError(
                f"line {line} has the time {text!r}, and those above have {' or '.join(left)}: write all as 2016-07-01"
            )
        left = fitting
    if len(left) > 1:
        raise HistoryError(
            f"times such as {example!r} may have {' or '.join(left)}, and no line tells: write them as 2016-07-01"
        )
    return next(iter(left.values()))


def _fits(match: re.Match[str], order: Order) -> bool:
    year, month, day = (match[1 + place] for place in order)
    return len(year) == 4 and 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def _iso(order: Order, text: str) -> str:
    match = SLASHED.fullmatch(text)
    if match is None:
        return text
    year, month, day = (match[1 + place] for place in order)
    date = f"{year}-{month:0>2}-{day:0>2}"
    return date if match[4] is None else f"{date}T{match[4]:0>2}{match[5]}"
