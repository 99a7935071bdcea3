"""Files for a back-test that are an attack on the reader: each is one sentence, in time that grows with the file."""

import io
import random

import pyarrow as arrow
import pytest
from pyarrow import parquet

from pipeline.events import Decoder, Format
from worker.backtest.columns import HistoryError
from worker.backtest.files import records

FORM = Format()


def parquet_file(**columns: object) -> bytes:
    raw = io.BytesIO()
    parquet.write_table(arrow.table(columns), raw)
    return raw.getvalue()


def refused(data: bytes) -> str:
    with pytest.raises(HistoryError) as caught:
        list(records(io.BytesIO(data), FORM))
    return str(caught.value)


# ---- CSV


@pytest.mark.timeout(60, method="signal")
def test_a_header_of_many_columns_is_read() -> None:
    """In proportion it takes a second; squared, as it once did, longer than anybody waits."""
    columns = 200_000
    header = ",".join(["time", *(f"c{i}" for i in range(columns))])
    data = f"{header}\n1{',1' * columns}\n".encode()
    assert len(list(records(io.BytesIO(data), FORM))) == columns


def test_a_column_that_is_there_twice_is_still_found_wherever_it_stands() -> None:
    for place in (0, 1, 500):
        names = ["time", *(f"c{i}" for i in range(500))]
        assert refused(",".join([*names, names[place]]).encode()) == f"column {names[place]!r} is there twice"


# ---- Parquet


def test_a_column_whose_name_is_no_text_is_a_sentence() -> None:
    data = parquet_file(time=[1], abcd=[1.0]).replace(b"abcd", b"ab\x90d")
    assert refused(data).startswith("it is no Parquet file that can be read: 'utf-8' codec can't decode byte 0x90")


TIMES = [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("time", arrow.array(TIMES, arrow.time64("ns"))),
        ("a", arrow.array(TIMES, arrow.time64("ns"))),
        ("a", arrow.array(TIMES, arrow.duration("ns"))),
        ("a", arrow.array([2**62] * 3, arrow.duration("s"))),
        ("a", arrow.array([b"\xff", b"\xfe", b"a"]).view(arrow.utf8())),
    ],
    ids=["time64 as time", "time64", "duration", "long duration", "no UTF-8"],
)
def test_a_column_that_python_cannot_hold_is_a_sentence_with_its_name_and_type(name: str, cells: arrow.Array) -> None:
    words = refused(parquet_file(**{"time": TIMES, "b": TIMES, name: cells}))
    assert words.startswith(f"column {name!r} cannot be read as {cells.type} ("), words
    assert words.endswith("): write it as numbers, as text or as timestamps, or leave it out")


def test_a_time_of_day_and_a_duration_are_still_text_for_the_decoder() -> None:
    data = parquet_file(time=arrow.array(TIMES, arrow.time64("us")), a=arrow.array(TIMES, arrow.duration("s")))
    [first, *_] = records(io.BytesIO(data), FORM)
    assert first.value == b'{"stream":"a","time":"00:00:00.000001","value":"0:00:01"}'


# ---- bytes that were damaged on their way


def damaged(data: bytes, seed: int) -> bytes:
    draw, kept = random.Random(seed), bytearray(data)
    for _ in range(draw.choice([1, 2, 8])):
        at = draw.randrange(len(kept))
        kept[at : at + draw.choice([0, 1, 1, 20])] = draw.choice(
            [b"", b"\0", b"\xff", b'"', b"\r", b"1" * 30, b"1e999"]
        )
    return bytes(kept)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_are_records_or_a_sentence(seed: int) -> None:
    csv = b"stream,time,value\n" + b"".join(b"a%d,2020-01-0%d,%d\n" % (i % 3, 1 + i % 9, i) for i in range(60))
    whole = parquet_file(stream=["a", "b"] * 30, time=list(range(60)), value=[1.0] * 60)
    decoder = Decoder(FORM)
    for data in (csv, whole):
        try:
            for record in records(io.BytesIO(damaged(data, seed)), FORM):
                decoder.decode([record.place], [record.timestamp_ms], [None], [record.value])
        except (HistoryError, OSError):  # the command makes a sentence of either
            pass
