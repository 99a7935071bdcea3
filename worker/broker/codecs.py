"""How batches of records are unpacked: by which libraries, how large one may become, what is said where one is not."""

import gzip
import io
import struct
from collections.abc import Callable, Iterator
from typing import Protocol

import lz4.frame
import zstandard
from kafka import KafkaConsumer, codec
from kafka.errors import CorruptRecordError, KafkaError, UnsupportedCodecError
from kafka.record import default_records, legacy_records

from worker.broker.contract import Unreadable

# What kafka-python (3.0.12) asks for by itself; a batch in any other way of packing is of no Kafka
_LIBRARIES = {
    "snappy": (codec.has_snappy, "python-snappy"),
    "lz4": (codec.has_lz4, "lz4"),
    "zstd": (codec.has_zstd, "zstandard"),
}
DELETE = "delete the records of {tp.topic}-{tp.partition} up to the next batch (kafka-delete-records)"
MEND = "its bytes are damaged: mend the brokers' copies, or "
LARGER = "raise kafka.max_batch_mb where such batches are meant, or "
PIECE = 1 << 20
MB = 1 << 20
XERIAL_HEADER = 16  # bytes before the first block

Unpack = Callable[[bytes | memoryview], bytes | bytearray]


class TooLarge(ValueError):  # noqa: N818 - a state of the log, whoever reads it
    """A batch that would become larger than it may."""


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def missing_library(text: str) -> str | None:
    """The Python package that is missing to unpack what `text` names: a `compression.type`, or the client's error."""
    names = (package for name, (there, package) in _LIBRARIES.items() if name in text and not there())
    return next(names, None)


def limit_batches(megabytes: int) -> None:
    """Unpack batches piece by piece from now on, in every client of this process, and refuse larger ones on the way.

    kafka-python (3.0.12) would make the whole of whatever a batch becomes, a gigabyte out of one megabyte on the wire,
    and has no place for a limit but its own names.
    """
    for name, unpack in unpackers(megabytes * MB).items():
        for module in (codec, default_records, legacy_records):
            setattr(module, f"{name}_decode", unpack)


def unpackers(limit: int) -> dict[str, Unpack]:
    """How each compression is unpacked, up to so many bytes; beyond them TooLarge is raised."""

    def read(reader: _Reader) -> bytearray:
        out = bytearray()
        while piece := reader.read(PIECE):
            _grow(out, piece, limit)
        return out

    def snappy(packed: bytes | memoryview) -> bytearray:
        out = bytearray()
        for block in _blocks(bytes(packed)):
            _check(len(out) + _claimed(block), limit)  # a block is unpacked at once, and begins with its size
            _grow(out, codec.snappy.decompress(block), limit)
        return out

    return {
        "gzip": lambda packed: read(gzip.GzipFile(fileobj=io.BytesIO(packed))),
        "lz4": lambda packed: read(lz4.frame.LZ4FrameFile(io.BytesIO(packed))),
        "zstd": lambda packed: read(
            zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True)
        ),
        "snappy": snappy,
    }


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"a batch becomes larger than {limit / MB:g} MB")


def _grow(out: bytearray, piece: bytes, limit: int) -> None:
    _check(len(out) + len(piece), limit)
    out += piece


def _blocks(packed: bytes) -> Iterator[bytes]:
    """Cut the framing of Java's producers, which other clients may leave out."""
    if not codec._detect_xerial_stream(packed):
        yield packed
        return
    at = XERIAL_HEADER
    while at < len(packed):
        (size,) = struct.unpack_from("!I", packed, at)
        at += 4 + size
        if at > len(packed):
            raise ValueError("a block of snappy is cut short")
        yield packed[at - size : at]


def _claimed(block: bytes) -> int:
    """Return what a block of snappy says of its size once it is unpacked: 7 bits a byte, the lowest first."""
    size = 0
    for place, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return size


def held_back(consumer: KafkaConsumer) -> Exception | None:
    """Take the error that the client met behind the records of this poll and keeps for the next one.

    A next poll that is for other partitions would drop it, and one for this partition then never return (kafka-python
    3.0.12).
    """
    kept, consumer._fetcher._next_in_line_exception_metadata = consumer._fetcher._next_in_line_exception_metadata, None
    return kept.exception if kept else None


def unreadable(consumer: KafkaConsumer, error: Exception, otherwise: str) -> Unreadable | None:
    """What a poll's error says of a batch that cannot be unpacked; None where it is another error.

    `otherwise` ends the sentence: what follows where the records are deleted. The consumer has read past nothing: its
    next poll meets the batch again.
    """
    # No error of the client's tells the place, but what it was unpacking is still there, and would be looked through
    # for more records for ever (kafka-python 3.0.12)
    batch = consumer._fetcher._next_partition_records
    another = isinstance(error, KafkaError) and not isinstance(error, UnsupportedCodecError | CorruptRecordError)
    if another or not batch:
        return None
    tp, offset = batch.topic_partition, batch.next_fetch_offset
    batch.drain()
    library = missing_library(str(error)) if isinstance(error, UnsupportedCodecError) else None
    first = LARGER if isinstance(error, TooLarge) else MEND
    fix = f"install {library} here" if library else f"{first}{DELETE.format(tp=tp)} and {otherwise}"
    where = f"{tp.topic}-{tp.partition} cannot be unpacked from offset {offset} on"
    return Unreadable(f"{where}: {error!r}", tp.partition, offset, fix)
