"""Files of history as records, in file order: CSV (gzip or not) and Parquet, long or wide.

Long: columns stream, time, value and covariates. Wide: time, then one stream per column. Where the first time of a CSV
is eight digits that are a date, such as 20200131, all dates are written so; else digits are epoch time, and dates.py
reads slashes. A record's timestamp is its event's time. The decoder judges single values, as it does in a worker.
"""

import csv
import gzip
import io
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, BinaryIO, cast

import orjson

from pipeline.backtest.backtest import Record
from pipeline.decoding.paths import WHOLE, message
from pipeline.decoding.times import EPOCH, MILLISECOND, YEAR_MS, from_epoch, from_iso
from pipeline.events import NO_TIMESTAMP, Format
from worker.backtest.columns import PLAIN, Columns, HistoryError, place_of, places_of
from worker.backtest.dates import reader_of

MISSING = ("", "NA", "NaN", "nan")
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
EPOCH_DIGITS = 19  # more would not fit what JSON decoders take as an integer
AT_ONCE = 20_000  # rows of a Parquet file
UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

Row = Sequence[Any]  # text in CSV, what the column's type makes of it in Parquet
Maker = Callable[[int, Row], Iterator[Record]]  # from a line's number and cells


def records(raw: BinaryIO, form: Format, columns: Columns = PLAIN) -> Iterator[Record]:
    """Yield the records as a producer would have made them; `raw.tell()` is the progress in bytes.

    Raises HistoryError where the file has not the form of a table.
    """
    magic = raw.read(len(PARQUET))
    raw.seek(0)
    yield from (_parquet if magic == PARQUET else _csv)(raw, form, columns)


def _csv(raw: BinaryIO, form: Format, columns: Columns) -> Iterator[Record]:
    with closing(_lines(raw)) as lines:
        _, header = next(lines, (1, []))
        if not header:
            raise HistoryError("line 1 has no columns: it must name them, as in stream,time,value")
        (make, time_at), reads = _maker(header, form, columns), None
        for line, row in lines:
            if len(row) == len(header):
                if reads is None:
                    reads = reader_of(row[time_at], partial(_column_again, raw, time_at))
                row[time_at] = reads(row[time_at])
                yield from make(line, row)
            elif row:
                raise HistoryError(f"line {line} {_misfit(row, header)}")


def _lines(raw: BinaryIO) -> Generator[tuple[int, list[str]], None, None]:
    """Yield each line's number and cells, from the first one on. Raises HistoryError where they are no CSV."""
    raw.seek(0)
    packed = raw.read(len(GZIP)) == GZIP
    raw.seek(0)
    plain = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
    text = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
    rows = csv.reader(text, strict=True)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise HistoryError(f"line {rows.line_num} is no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise HistoryError(f"it is no text in UTF-8 ({error.reason}): give CSV in UTF-8 or Parquet") from error
    finally:
        text.detach()  # else it closes the file, which is not ours


def _column_again(raw: BinaryIO, place: int) -> Generator[tuple[int, str], None, None]:
    """Yield each line's number and its cell, while another reader of the file stands still."""
    at = raw.tell()
    with closing(_lines(raw)) as lines:
        for line, row in lines:
            if len(row) > place:
                yield line, row[place]
    raw.seek(at)


def _misfit(row: Row, header: Row) -> str:
    if len(row) < len(header):
        return f"ends before column {header[len(row)]!r}"
    return f"goes on after the last column, {header[-1]!r}, with {row[len(header)]!r}"


def _parquet(raw: BinaryIO, form: Format, columns: Columns) -> Iterator[Record]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise HistoryError("Parquet needs pyarrow, which is not installed: pip install 'foldcast[parquet]'") from error
    try:
        size = raw.seek(0, io.SEEK_END)
        file = parquet.ParquetFile(raw)
        done, rows = 0, max(1, file.metadata.num_rows)
        make, _ = _maker(file.schema_arrow.names, form, columns)
        for batch in file.iter_batches(AT_ONCE, use_threads=False):
            raw.seek(size * (done + len(batch)) // rows)  # pyarrow seeks by itself; this is for who asks how far it is
            for place, row in enumerate(zip(*map(_plain, batch.schema.names, batch.columns), strict=True), done + 1):
                yield from make(place, row)
            done += len(batch)
    except (arrow.ArrowException, UnicodeDecodeError) as error:  # the latter: what a column is called
        raise HistoryError(f"it is no Parquet file that can be read: {' '.join(str(error).split())}") from error


def _plain(name: str, column: Any) -> list[Any]:
    """Return a Parquet column's cells as JSON could hold them. Raises HistoryError where Python cannot hold one."""
    import pyarrow as arrow

    kind, types = column.type, arrow.types
    if types.is_timestamp(kind) or types.is_date64(kind):
        per_s = UNITS_PER_S["ms" if types.is_date64(kind) else kind.unit]
        ticks = column.cast(arrow.int64()).to_pylist()  # not as datetime: Python's ends with the year 9999
        return [None if t is None else _epoch(t * 1000 // per_s) for t in ticks]
    if types.is_date32(kind):
        return [None if days is None else _epoch(days * 86_400_000) for days in column.cast(arrow.int32()).to_pylist()]
    if types.is_decimal(kind):
        column = column.cast(arrow.float64())
    try:
        return [_cell(cell) for cell in column.to_pylist()]
    except (ValueError, OverflowError) as error:  # nanoseconds, more days than Python counts, text that is not UTF-8
        fix = "write it as numbers, as text or as timestamps, or leave it out"
        raise HistoryError(f"column {name!r} cannot be read as {kind} ({error}): {fix}") from error


def _epoch(ms: int) -> str:
    """Return the time as text that the decoder takes however old it is; of one beyond the calendar it says so."""
    try:
        return (EPOCH + ms * MILLISECOND).isoformat()
    except OverflowError:
        return f"{ms} ms"


def _cell(cell: object) -> object:
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    return cell if cell is None or isinstance(cell, str | int | float) else str(cell)


def _maker(header: list[str], form: Format, columns: Columns) -> tuple[Maker, int]:
    """Return the maker of a line's records, and where the line has its time."""
    seen: set[str] = set()  # a search among all columns before, for each, would take minutes for some ten thousand
    for name in header:
        if name in seen:
            raise HistoryError(f"column {name!r} is there twice")
        seen.add(name)
    stream_at, time_at, values = places_of(header, form, columns)
    if stream_at is None:
        for setting, fields in (("events.covariates", form.covariates), ("events.target_fields", form.target_fields)):
            if fields:
                fix = f"add a column {form.stream_field!r}, or leave the setting out"
                raise HistoryError(f"{setting} are columns of one stream, and here each column is a stream: {fix}")
        return partial(_wide, [(place, header[place]) for place in values], time_at, form), time_at
    numbers = [*zip(form.target_fields or (form.target_field,), values, strict=True)]
    numbers += [(name, place_of(header, name, "events.covariates")) for name in form.covariates]
    return partial(_long, stream_at, time_at, numbers, form), time_at


def _long(
    stream_at: int, time_at: int, numbers: list[tuple[str, int]], form: Format, line: int, row: Row
) -> Iterator[Record]:
    stream = row[stream_at]
    cells = {name: row[place] for name, place in numbers}
    yield _record(line, "" if stream is None else str(stream), row[time_at], cells, form)


def _wide(streams: list[tuple[int, str]], time_at: int, form: Format, line: int, row: Row) -> Iterator[Record]:
    for place, stream in streams:
        yield _record(line, stream, row[time_at], {form.target_field: row[place]}, form)


def _record(line: int, stream: str, moment: Any, cells: dict[str, Any], form: Format) -> Record:
    when = _time(moment) if isinstance(moment, str) else _number(moment)
    if isinstance(when, str):
        time_ms = from_iso(when, form.times.zone)
    else:
        time_ms = None if when is None else _believed(from_epoch(when))
    event = {form.stream_field: stream, form.time_field: when} | {name: _number(c) for name, c in cells.items()}
    body = event[WHOLE] if form.target_field == WHOLE else message(event)
    return Record(line, stream, NO_TIMESTAMP if time_ms is None else time_ms, orjson.dumps(body))


def _believed(time_ms: int | None) -> int | None:
    """Return an epoch as a record's timestamp; now, where it is a year ahead, so that the decoder doubts it."""
    now_ms = round(time.time() * 1000)
    return now_ms if time_ms is not None and time_ms > now_ms + YEAR_MS else time_ms


def _time(text: str) -> str | int | float | None:
    """Return a time as JSON would hold it; digits are epoch seconds, ms, us or ns."""
    if text in MISSING:
        return None
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < EPOCH_DIGITS:
        return int(text)
    number = _number(text)
    return number if isinstance(number, float) else text


def _number(cell: Any) -> Any:
    """Return a cell as JSON would hold it: a finite number, or null; else unchanged, for the decoder to refuse.

    A NaN that is no text is missing: so data frames write it.
    """
    if isinstance(cell, str):
        if cell in MISSING:
            return None
        try:
            number = float(cell)
        except ValueError:
            return cell
        return number if math.isfinite(number) else cell
    if isinstance(cell, float) and not math.isfinite(cell):
        return None if math.isnan(cell) else str(cell)
    return cell
