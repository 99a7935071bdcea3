"""The changelog of a shard: pages, marker, weights, and the shard and its learning that they become.

A clean refusal is a ValueError, which a restore turns into a sentence. A find is any other exception, or a shard that
is taken although it is not whole. Checksums are left out, as by a worker from before there were any: a fuzzer cannot
reckon them, and who writes to the changelog can.
"""

import json
from collections.abc import Iterator
from functools import cache

import msgspec
import numpy as np

from pipeline.durable.image import BASE_KEY, GOOD_KEY, MARKER_KEY, Page, read_image
from pipeline.shard import Shard
from tests.security.fuzz import parts, promise
from worker.lives.loading import cold_start, loaded
from worker.plan import Plan
from worker.settings.sources import load

PLAN = Plan.of(load(None, {}, model={"hidden_size": 2, "profile": "lite", "horizons": (1,), "season_slots": 2}))
KEYS = (MARKER_KEY, b"page-0-a", b"page-0-b", b"page-1-a", b"weights-0", b"weights-9", BASE_KEY, GOOD_KEY, b"weights-x")
LENGTH = 2  # bytes
LARGEST = 1 << 63

Log = list[tuple[bytes, bytes | None]]


def one(data: bytes) -> None:
    """Restore from records or, where the input begins with `{`, from a good image with fields changed."""
    records = _changed(data) if data.startswith(b"{") else _records(data)
    try:
        shard, learning = loaded(read_image(records), PLAN)
    except ValueError:
        return
    table = shard.table
    promise({table.names[row]: row for row in table.index.values()} == table.index, "a name leads to its row")
    promise(len(table.index) == sum(name is not None for name in table.names), "each row has a name of its own")
    for field, bound in table._indices.items():
        rows = table.rows[field][: len(table.names)]
        promise(((rows >= 0) & (rows < bound)).all(), f"{field} is an index into its table")
    numbers = (shard.position, shard.weights_offset, shard.clock_ms, shard.next_sweep, *learning.logged)
    promise(all(-LARGEST <= number < LARGEST for number in numbers), "a number is an offset or a time")
    promise(min(shard.position, shard.weights_offset, shard.next_sweep) >= 0, "an offset is none below zero")
    promise(all(np.isfinite(array).all() for array in map(np.asarray, shard.network.weights.values())), "weights")
    shard.begin_snapshot()
    shard.snapshot_pieces(100)


def _records(data: bytes) -> Log:
    """A byte for the key, two for the length, and the value; a length of 0 deletes."""
    records: Log = []
    while data:
        size = int.from_bytes(data[1 : 1 + LENGTH], "big")
        records.append((KEYS[data[0] % len(KEYS)], data[1 + LENGTH :][:size] or None))
        data = data[1 + LENGTH + size :]
    return records


def _changed(data: bytes) -> Log:
    """A line of JSON with fields of the marker, and one with fields of the page, of which `rows` are bytes by place."""
    for_marker, for_page = parts(data, 2)
    try:
        marker, page = json.loads(for_marker), json.loads(for_page or b"{}")
        (*others, (page_key, page_bytes), (_, marker_bytes)) = _good()
        good = msgspec.msgpack.decode(page_bytes, type=Page)
        rows = bytearray(good.rows)
        for place, byte in page.pop("rows", {}).items():
            rows[int(place) % len(rows)] = byte
        changed = msgspec.structs.replace(good, **page, rows=bytes(rows))
        return [
            *others,
            (page_key, msgspec.msgpack.encode(changed)),
            (MARKER_KEY, json.dumps({**json.loads(marker_bytes), **marker}).encode()),
        ]
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):  # no such fields
        return []


def _written(records: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(bytes([KEYS.index(k)]) + len(v).to_bytes(LENGTH, "big") + v for k, v in records)


@cache
def _good() -> tuple[tuple[bytes, bytes], ...]:
    """Weights, a page, and the marker."""
    weights = [pair for pair in cold_start(PLAN.shard(0)) if pair[0] != MARKER_KEY]
    shard = _folded()
    shard.begin_snapshot()
    return (*weights, *map(_unchecked, shard.snapshot_pieces(100)[0]))


def _unchecked(pair: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    if pair[0] != MARKER_KEY:
        return pair
    marker = msgspec.json.decode(pair[1])
    del marker["checksum"], marker["page_checksums"]
    return MARKER_KEY, msgspec.json.encode(marker)


def _folded() -> Shard:
    shard = PLAN.shard(0)
    records = [b'{"stream": "s%d", "time": %d, "value": %d}' % (n % 3, 1_357_020_000 + n * 60, n) for n in range(12)]
    none = [None] * len(records)
    shard.advance(PLAN.decoder.decode(range(12), [-1] * 12, none, records)[0])
    return shard


def seeds() -> Iterator[bytes]:
    """Yield an empty shard's changelog and that of one with streams, and parts of it."""
    cold = cold_start(PLAN.shard(0))
    yield _written(cold)
    yield _written([_unchecked(pair) for pair in cold])
    shard = _folded()
    weights = [pair for pair in cold if pair[0] != MARKER_KEY]
    shard.begin_snapshot()
    pieces = shard.snapshot_pieces(100)[0]
    yield _written([*weights, *pieces])
    whole = [*weights, *map(_unchecked, pieces)]
    yield _written(whole)
    yield _written(whole[:-1])
    yield b'{"offset": 12, "watch": [0.5], "clock_ms": 7, "next_sweep": 9, "page_offsets": [0], "letters": "a"}\n'
    yield b'{"counters": {"records": 1}, "source": "x", "clean": true, "weights": 0, "page_checksums": [-1]}\n{}'
    yield b'{}\n{"names": ["s0", "s0", null], "rows": {"0": 255, "17": 3}, "number": 0, "offset": 12}'
    yield _written([*whole, (KEYS[5], weights[0][1]), (GOOD_KEY, weights[0][1])])
