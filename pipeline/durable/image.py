"""A shard's durable form: pages of rows, a marker that makes them an image at one offset, and adoptions of weights.

Keys, per partition of a compacted log: `page-<n>-a` and `page-<n>-b`, `shard` (the marker), `weights-<offset>` (an
adoption), `weights-base` and `weights-good` (those to go back to), `refused-<first offset>` (events that were refused
for a reason which the log does not hold).
A snapshot writes each changed page under the letter that is not in force; the marker, written last, flips them. So a
half-written snapshot is invisible, and the newest marker always finds the pages it names.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated
from zlib import crc32

import msgspec

MARKER_KEY = b"shard"
WEIGHTS_PREFIX = b"weights-"
GOOD_KEY = b"weights-good"
BASE_KEY = b"weights-base"
REFUSED_PREFIX = b"refused-"
MOST_REFUSED = 10_000  # in one record, so that it stays below the size of a page
UNCHECKED = -1
OFFSET_DIGITS = 19


Number = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]  # what fits where numbers are reckoned with
Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class ImageError(ValueError):
    """The changelog does not hold a whole image; nothing of it may be used."""


class OtherSettingsError(ImageError):
    """The image is whole, and of other settings."""

    @classmethod
    def between(cls, was: Mapping[str, object], now: Mapping[str, object]) -> "OtherSettingsError | None":
        """Return what differs between settings as JSON has them, in words; None where nothing does.

        A setting that is missing stands at its default, or did not exist when the image was written.
        """
        changed = sorted(k for k in now.keys() | was.keys() if now.get(k) != was.get(k))
        old, new = ({k: repr(of[k]) if k in of else "the default" for k in changed} for of in (was, now))
        return cls("; ".join(f"{k} was {old[k]} and is {new[k]}" for k in changed)) if changed else None


class Page(msgspec.Struct, frozen=True, array_like=True):
    """A run of rows as they were at `offset`."""

    number: int
    offset: int
    method: str  # fingerprint: rows are only read by the method that wrote them
    names: list[str | None]
    rows: bytes


class Counters(msgspec.Struct):
    """What became of a shard's records, by number; part of the fold."""

    records: int = 0
    forecasts: int = 0
    late: int = 0
    duplicate: int = 0
    missing: int = 0
    sentinel: int = 0
    outside_range: int = 0
    dead: int = 0


class Marker(msgspec.Struct, frozen=True):
    """The image at `offset`: for each page the letter in force and the offset it was written at."""

    offset: Offset
    method: str
    settings: dict[str, object]  # in words, to name what differs
    letters: str
    page_offsets: list[Offset]
    weights: Offset  # offset of the adoption in service
    counters: Counters
    clock_ms: Number
    next_sweep: Offset
    watch: list[float]  # state of the watchdog
    clean: bool = False  # written by a clean stop: the later of `offset` and `border` is the last committed one
    page_checksums: list[int] = []  # of the pages' bytes, `UNCHECKED` where one was written before there were any
    source: str = ""  # id of the log that was folded; empty: unknown
    border: Offset = 0  # below it everything was published by another group; 0 from there on, or where there was none
    checksum: int | None = None  # of the marker's bytes with null here, the last field; None: written before


class Refused(msgspec.Struct, frozen=True):
    """Events that a worker refused by its clock or its memory: who folds the log again has to leave them out too."""

    made_ms: Number
    offsets: Annotated[list[Offset], msgspec.Meta(min_length=1)]  # increasing


class Image(msgspec.Struct):
    """What a changelog holds once read to its end."""

    marker: Marker | None
    pages: list[Page]
    weights: dict[int, bytes]  # adoptions by the offset they hold from
    good: bytes | None  # the last adoption that was better than the last value, or the base again
    base: bytes | None  # what the shard began with
    refused: list[Refused] = []  # by offset

    @property
    def newest(self) -> int:
        """The lowest offset that the group can have committed with all that is here."""
        border = self.marker.border if self.marker is not None else 0
        return max([border, *self.weights, *(entry.offsets[-1] + 1 for entry in self.refused)])


def page_key(number: int, letter: str) -> bytes:
    """Return the key under which a page is written."""
    return b"page-%d-%s" % (number, letter.encode())


def weights_key(offset: int) -> bytes:
    """Key of the adoption that holds from `offset`."""
    return WEIGHTS_PREFIX + b"%d" % offset


def refused_key(offset: int) -> bytes:
    """Key of the refused events of which the first is at `offset`."""
    return REFUSED_PREFIX + b"%d" % offset


def other(letter: str) -> str:
    """The letter a changed page is written under; `-` stands for a page never written."""
    return "b" if letter == "a" else "a"


_page_decoder = msgspec.msgpack.Decoder(Page)
_marker_decoder = msgspec.json.Decoder(Marker)
_refused_decoder = msgspec.json.Decoder(Refused)


def encode_page(page: Page) -> bytes:
    """Bytes of a page: msgpack, the rows as they are in memory."""
    return msgspec.msgpack.encode(page)


def encode_marker(marker: Marker) -> bytes:
    """Bytes of a marker with its checksum: JSON, for people to read."""
    blank = msgspec.json.encode(msgspec.structs.replace(marker, checksum=None))
    return msgspec.json.encode(msgspec.structs.replace(marker, checksum=crc32(blank)))


def encode_refused(entry: Refused) -> bytes:
    """Bytes of refused events: JSON, for people to read."""
    return msgspec.json.encode(entry)


def decode_marker(data: bytes) -> Marker:
    """Return the marker of these bytes. Raises ImageError, msgspec.MsgspecError, RecursionError where they are none."""
    marker = _marker_decoder.decode(data)
    head, name, _ = data.rpartition(b'"checksum":')  # of the bytes: an older version had fewer fields to encode
    if marker.checksum is not None and marker.checksum != crc32(head + name + b"null}"):
        raise ImageError("the marker is damaged: its checksum is another")
    pages = len(marker.page_offsets)
    if len(marker.letters) != pages or len(marker.page_checksums) not in (0, pages):
        raise ImageError(f"the marker names {len(marker.letters)} pages and {pages} offsets")
    return marker


def read_image(records: Iterable[tuple[bytes, bytes | None]]) -> Image:
    """The image in a changelog's records, in log order. Raises ImageError where it is not whole."""
    latest: dict[bytes, bytes] = {}
    for key, value in records:
        if value is None:
            latest.pop(key, None)
        else:
            latest[key] = value
    try:
        marker = decode_marker(latest[MARKER_KEY]) if MARKER_KEY in latest else None
        good, base = latest.pop(GOOD_KEY, None), latest.pop(BASE_KEY, None)
        weights = {_offset_of(k): v for k, v in latest.items() if k.startswith(WEIGHTS_PREFIX)}
        refused = [_refused_decoder.decode(v) for k, v in latest.items() if k.startswith(REFUSED_PREFIX)]
        pages = [] if marker is None else _pages(marker, latest)
    except KeyError as error:
        raise ImageError(f"the marker names {error.args[0]!r}, which is not there") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ImageError(f"a record cannot be read: {error}") from error
    if marker is not None and marker.weights not in weights:
        raise ImageError(f"the weights in service at {marker.offset} ({weights_key(marker.weights)!r}) are not there")
    return Image(marker, pages, weights, good, base, sorted(refused, key=lambda entry: entry.offsets))


def _offset_of(key: bytes) -> int:
    offset = key.removeprefix(WEIGHTS_PREFIX)
    if not offset.isdigit() or len(offset) > OFFSET_DIGITS:
        raise ImageError(f"the key {key!r} names no offset")
    return int(offset)


def _pages(marker: Marker, latest: dict[bytes, bytes]) -> list[Page]:
    pages = []
    checksums = marker.page_checksums or [UNCHECKED] * len(marker.letters)
    places = zip(marker.letters, marker.page_offsets, checksums, strict=True)
    for number, (letter, offset, checksum) in enumerate(places):
        data = latest[page_key(number, letter)]
        if checksum not in (UNCHECKED, crc32(data)):
            raise ImageError(f"page {number}{letter} is damaged: its checksum is another")
        page = _page_decoder.decode(data)
        if page.offset != offset or page.method != marker.method:
            raise ImageError(f"page {number}{letter} is from offset {page.offset}, the marker wants it from {offset}")
        pages.append(page)
    return pages
