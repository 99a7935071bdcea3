"""Which columns of a file are stream, time and value, and what to say where they are called otherwise."""

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.events import Format
from worker.refusal import Refusal

SHOWN = 200  # characters of a header
SEPARATORS = (";", "\t", "|")
USUAL = {  # names in other people's files, by option
    "id": ("unique_id", "item_id", "series_id", "sensor_id", "device_id", "symbol", "id"),
    "time": ("ds", "timestamp", "datetime", "date", "ts"),
    "target": ("y", "target", "reading", "price", "close"),
}
SERIES = USUAL["id"][:3]  # no stream of a wide file is called so


class HistoryError(Refusal):
    """The file cannot be used; the message is one sentence with line and column."""


class Columns(NamedTuple):
    """Names of columns as the command line gives them; None: as in [events], else stream, time and value."""

    id: str | None = None
    time: str | None = None
    target: str | None = None


PLAIN = Columns()


class Places(NamedTuple):
    """Where in a row the columns are; no stream: every value's column is a stream of its own."""

    stream: int | None
    time: int
    values: list[int]


def places_of(header: Sequence[str], form: Format, asked: Columns = PLAIN) -> Places:
    """Find the columns of a long or a wide table. Raises HistoryError where they are not there, with the fix."""
    if len(header) == 1 and (found := next((s for s in SEPARATORS if s in header[0]), None)):
        fix = "write the file with commas between columns, and points in numbers"
        raise HistoryError(f"line 1, {header[0][:SHOWN]!r}, is separated by {found!r}: {fix}")
    if asked.target and form.target_fields:
        raise HistoryError("--target and events.target_fields both name the columns of values: leave one out")
    at = {
        "id": _place(header, "id", asked.id, (form.stream_field, "stream")),
        "time": _place(header, "time", asked.time, (form.time_field, "time")),
    }
    if not form.target_fields:
        at["target"] = _place(header, "target", asked.target, (form.target_field, "value"))
    there = f"among {_some(header)}{_fix(header, at)}"
    if at["time"] is None:
        raise HistoryError(f"there is no column {form.time_field!r} {there}")
    if at["id"] is None:
        target_at = at.get("target")
        if asked.target is None and target_at is not None and len(header) > 2:
            target, named = header[target_at], _likely(header, "id")
            fix = f"give --target {target} where {target!r} is one stream, or --id {named or 'COLUMN'}"
            raise HistoryError(f"there is no column {form.stream_field!r} among {_some(header)}: {fix} that names them")
        if any(name.lower() in SERIES for name in header):
            raise HistoryError(f"there is no column {form.stream_field!r} {there}")
        wide = [place for place in range(len(header)) if place != at["time"]]
        return Places(None, at["time"], wide if asked.target is None or target_at is None else [target_at])
    if form.target_fields:
        values = [place_of(header, name, "events.target_fields") for name in form.target_fields]
        return Places(at["id"], at["time"], values)
    if at["target"] is None:
        raise HistoryError(f"there is no column {form.target_field!r} {there}")
    return Places(at["id"], at["time"], [at["target"]])


def _place(header: Sequence[str], option: str, name: str | None, otherwise: tuple[str, ...]) -> int | None:
    if name is not None and name not in header:
        raise HistoryError(f"there is no column {name!r} (--{option}) among {_some(header)}")
    return next((header.index(n) for n in ((name,) if name else otherwise) if n in header), None)


def place_of(header: Sequence[str], name: str, setting: str) -> int:
    """Return where the column is that a setting names. Raises HistoryError where it is not there."""
    if name not in header:
        raise HistoryError(f"there is no column {name!r} ({setting}) among {_some(header)}")
    return header.index(name)


def _some(header: Sequence[str]) -> str:
    return ", ".join(map(repr, header))[:SHOWN]


def _fix(header: Sequence[str], at: dict[str, int | None]) -> str:
    """Return options that name columns by what they are called elsewhere, or how to give them."""
    likely = {option: _likely(header, option) for option, place in at.items() if place is None}
    words = [f"--{option} {name}" for option, name in likely.items() if name is not None]
    return f": try {' '.join(words)}" if words else ": name columns with --id, --time and --target"


def _likely(header: Sequence[str], option: str) -> str | None:
    return next((name for usual in USUAL[option] for name in header if name.lower() == usual), None)
