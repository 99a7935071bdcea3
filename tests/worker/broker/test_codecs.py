"""What is packed small and becomes large: how much of it is ever made, by each compression."""

import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from kafka import codec
from kafka.record import default_records
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatch, LegacyRecordBatchBuilder

from tests.rigs import snappy
from worker.broker.codecs import MB, PIECE, TooLarge, limit_batches, unpackers
from worker.settings.kafka import Kafka

LIMIT = 2 * MB
EVENTS = b'{"stream": "a", "time": 7, "value": 1.5}\n' * 20_000
XERIAL = b"\x82SNAPPY\x00" + struct.pack("!ii", 1, 1)


def blocks(plain: bytes) -> bytes:
    """As Java's producers frame snappy."""
    packed = [snappy.compress(plain[at : at + 32_768]) for at in range(0, len(plain), 32_768)]
    return XERIAL + b"".join(struct.pack("!i", len(block)) + block for block in packed)


def frames(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Two frames one after the other, which are one batch too."""
    return lambda plain: pack(plain[: len(plain) // 2]) + pack(plain[len(plain) // 2 :])


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", codec.gzip_encode),
    "gzip, in two": ("gzip", frames(codec.gzip_encode)),
    "lz4": ("lz4", codec.lz4_encode),
    "lz4, in two": ("lz4", frames(codec.lz4_encode)),
    "zstd": ("zstd", codec.zstd_encode),
    "zstd, in two": ("zstd", frames(codec.zstd_encode)),
    "snappy": ("snappy", snappy.compress),
    "snappy, framed": ("snappy", blocks),
}


@pytest.fixture(autouse=True)
def _snappy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not codec.has_snappy():
        monkeypatch.setattr(codec, "snappy", sys.modules[snappy.__name__])
    yield
    limit_batches(Kafka().max_batch_mb)


@pytest.fixture(params=PACKERS)
def packer(request: pytest.FixtureRequest) -> tuple[str, Callable[[bytes], bytes]]:
    return PACKERS[request.param]


def test_what_is_as_large_as_allowed_is_unpacked_to_the_byte(packer: tuple[str, Callable[[bytes], bytes]]) -> None:
    name, pack = packer
    plain = EVENTS[:60_000] if name == "snappy" else EVENTS
    assert unpackers(len(plain))[name](pack(plain)) == plain
    with pytest.raises(TooLarge):
        unpackers(len(plain) - 1)[name](pack(plain))


def test_of_what_becomes_larger_little_more_than_the_limit_is_made(
    packer: tuple[str, Callable[[bytes], bytes]],
) -> None:
    name, pack = packer
    packed = pack(bytes(16 * LIMIT))
    assert len(packed) < 16 * LIMIT / 20
    unpack = unpackers(LIMIT)[name]
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="a batch becomes larger than 2 MB"):
            unpack(packed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * LIMIT + 3 * PIECE + 2 * len(packed)


@pytest.mark.parametrize("claimed", [b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x04"])
def test_a_block_of_snappy_that_claims_gigabytes_is_not_begun(claimed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bytes] = []
    monkeypatch.setattr(codec.snappy, "decompress", begun.append)
    for packed in (claimed + b"\0a", XERIAL + struct.pack("!i", 7) + claimed + b"\0a"):
        with pytest.raises(TooLarge):
            unpackers(64 * MB)["snappy"](packed)
    assert not begun


def test_a_frame_of_snappy_whose_length_leads_backwards_comes_to_an_end() -> None:
    with pytest.raises(ValueError, match="cut short"):
        unpackers(LIMIT)["snappy"](XERIAL + struct.pack("!i", -4) + b"\0a")


def batch_of(kind: int, name: str, value: bytes) -> Iterator[object]:
    compression = getattr(DefaultRecordBatch, f"CODEC_{name.upper()}")
    if kind == 2:
        builder = DefaultRecordBatchBuilder(2, compression, False, -1, -1, -1, 1 << 20)
        builder.append(0, 7, None, value, [])
        return iter(DefaultRecordBatch(builder.build()))
    old = LegacyRecordBatchBuilder(kind, compression, 1 << 20)
    old.append(0, 7, None, value)
    return iter(LegacyRecordBatch(bytes(old.build()), kind))


NOW, OLD = [(2, name) for name in ("gzip", "lz4", "zstd", "snappy")], [(1, "gzip"), (1, "lz4")]


@pytest.mark.parametrize(("kind", "name"), [*NOW, *OLD])
def test_every_batch_that_the_client_reads_is_held_to_it(kind: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_records, "snappy_encode", snappy.compress)
    limit_batches(1)
    (record,) = batch_of(kind, name, b"x" * 1000)
    assert record.value == b"x" * 1000  # type: ignore[attr-defined]
    with pytest.raises(TooLarge):
        list(batch_of(kind, name, bytes(2 * MB)))
