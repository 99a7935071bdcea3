"""Files of history for a back-test: CSV, gzip or not, and Parquet, up to the decoder.

A clean refusal is a HistoryError of one sentence, or what the command makes one of (OSError, EOFError, zlib.error). A
find is any other exception.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import islice

import pyarrow as arrow
from pyarrow import parquet

from pipeline.events import Decoder, Format
from tests.security.fuzz import promise
from worker.backtest.columns import HistoryError
from worker.backtest.files import records

FORMS = (Format(), Format(covariates=("humid",)))
DECODERS = tuple(map(Decoder, FORMS))
MOST_ROWS = 5_000  # a small file may unpack to many


def one(data: bytes) -> None:
    """Read a file, whose first byte says in which format, and decode each record."""
    decoder = DECODERS[(data[0] if data else 0) % len(DECODERS)]
    try:
        for record in islice(records(io.BytesIO(data[1:]), decoder.form), MOST_ROWS):
            batch, rejected = decoder.decode([0], [record.timestamp_ms], [None], [record.value])
            promise(len(batch.name) + len(rejected) == 1, "a row's cell is an event or counted as refused")
    except (OSError, EOFError, zlib.error):
        return
    except HistoryError as error:
        promise(str(error).strip(), "a refusal is a sentence")


def _parquet(**columns: object) -> bytes:
    raw = io.BytesIO()
    parquet.write_table(arrow.table(columns), raw, compression="none")
    return raw.getvalue()


def seeds() -> Iterator[bytes]:
    """Yield long and wide tables of each kind."""
    long = b"stream,time,value,humid\na,2020-01-01,1.5,60\nb,20200102,NA,\n"
    wide = b"time,a,b\n20200101,1,2\n20200102,nan,-1e300\n"
    for choice in (b"\0", b"\1"):
        for table in (long, wide):
            yield choice + table
            yield choice + gzip.compress(table, mtime=0)
        yield choice + _parquet(stream=["a", "b"], time=[1, 2], value=[1.0, None], humid=[1, 2])
    yield b"\0" + _parquet(time=arrow.array([1, 2], arrow.timestamp("ns")), a=[b"x", b"y"], b=[[1], [2]])
    yield b"\0" + b'\xef\xbb\xbf"time";"a"\r\n"1";"2"\r\n'
