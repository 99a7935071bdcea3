"""Log lines on standard output: one per life-cycle event, as text for people or JSON for a collector.

`event("restored", partition=3, offset=17)` is the line `restored partition=3 offset=17`. Nothing is logged per event.
"""

import json
import logging
import math
import sys
import time
from datetime import UTC, datetime
from typing import Literal

from worker.refusal import printable

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

SILENT = logging.CRITICAL + 1
OWN = ("time", "level", "logger", "message", "exception")  # keys of a JSON line

_log = logging.getLogger("foldcast")


def configure(level: Level, format: Format) -> None:
    """Send every logger to standard output in this format; an earlier configuration ends."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    handler.addFilter(Sparse())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # It warns of every attempt to reach a broker that is away; below a warning it tells of every request
    logging.getLogger("kafka").setLevel(logging.WARNING if level == "debug" else SILENT)
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # and warns whenever a fetch was large
    logging.getLogger("numba").setLevel(max(logging.INFO, root.level))  # a debug line for every step of a compilation


def event(name: str, level: int = logging.INFO, /, **fields: object) -> None:
    """Log one life-cycle event, or what is as rare, with its fields."""
    assert not fields.keys() & set(OWN), f"a field of {name!r} is called like a part of every line: {sorted(fields)}"
    _log.log(level, name, extra={"fields": fields})


class Sparse(logging.Filter):
    """Lets few lines of the Kafka client through in a while from each place that writes any, and tells of the others.

    While it looks for a topic that is gone it writes hundreds of lines a second (kafka-python 3.0.12). Whatever it
    thinks of them, they are written as DEBUG: what a worker cannot do for want of a broker it says itself.
    """

    def __init__(self, lines: int = 5, in_s: float = 30.0) -> None:
        super().__init__()
        self._lines, self._in_s = lines, in_s
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}  # by place: since when, and how many

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if record.name.partition(".")[0] != "kafka":
            return True
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        place, now = (record.pathname, record.lineno), time.monotonic()
        since, number = self._seen.get(place, (now, 0))
        if now - since > self._in_s:
            if number > self._lines:
                record.msg, record.args = f"{record.getMessage()} (left out: {number - self._lines} lines like it)", ()
            since, number = now, 0
        self._seen[place] = since, number + 1
        return number < self._lines


class TextLines(logging.Formatter):
    """Formats a record as `2013-01-01T06:00:00.000Z INFO restored partition=3`; a traceback follows below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        words = [_time(record), record.levelname, printable(record.getMessage())]
        words += [f"{name}={_text(value)}" for name, value in _fields(record).items()]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        line: dict[str, object] = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage(), **_fields(record)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # JSON knows no NaN and no infinity
        finite = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        return json.dumps(finite, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return fields


def _text(value: object) -> str:
    """Return a value as text that cannot run into the next field."""
    if isinstance(value, dict):
        return ",".join(f"{name}:{_text(part)}" for name, part in value.items()) or "none"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text.isprintable() and text != "" and not any(c in text for c in ' ="')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
