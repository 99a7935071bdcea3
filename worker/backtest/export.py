"""Every scored forecast as a row of a file, as statsforecast and darts have them: for a join with other forecasts."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Ints
from pipeline.backtest.scoring import Scored, Sink
from pipeline.method import Method
from worker.refusal import Refusal, WrongUsage

AT_ONCE = 50_000  # rows of a row group


class ExportError(Refusal):
    """The forecasts cannot be written; the message is one sentence."""


def check(path: Path) -> None:
    """Check before hours of work that forecasts can be written. Raises WrongUsage or ExportError where they cannot."""
    if path.suffix not in (".csv", ".parquet"):
        raise WrongUsage(f"--forecasts is {path}; it must end in .csv or .parquet")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            fix = "pip install 'foldcast[parquet]', or name a file that ends in .csv"
            raise ExportError(f"--forecasts in Parquet needs pyarrow, which is not installed: {fix}") from error


@contextmanager
def writer(path: Path, method: Method) -> Iterator[Sink]:
    """Open the file; what the sink is handed is written, a row per forecast. Raises ExportError."""
    names = ["unique_id", "cutoff", "ds", "horizon", "y", "mean", *(f"q{level:g}" for level in method.quantiles)]
    try:
        with (_parquet if path.suffix == ".parquet" else _csv)(path, names) as sink:
            yield _refusing(sink)
    except OSError as error:  # when it is opened or closed
        raise _refusal(error) from error


def _refusing(sink: Sink) -> Sink:
    def write(scored: Scored) -> None:
        try:
            sink(scored)
        except OSError as error:
            raise _refusal(error) from error

    return write


def _refusal(error: OSError) -> ExportError:
    return ExportError(f"the forecasts cannot be written: {error}")


@contextmanager
def _csv(path: Path, names: list[str]) -> Iterator[Sink]:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(names)

        def write(scored: Scored) -> None:
            stream, horizon, made, due, label, mean, quantiles = scored
            numbers = np.column_stack([label, mean, quantiles]).tolist()
            for at, of, row in zip(_iso(made), _iso(due), numbers, strict=True):
                rows.writerow([stream, at, of, horizon, *row])

        yield write


def _iso(time_ms: Ints) -> list[str]:
    return np.datetime_as_string(time_ms.astype("datetime64[ms]")).tolist()  # type: ignore[no-any-return]


@contextmanager
def _parquet(path: Path, names: list[str]) -> Iterator[Sink]:
    import pyarrow as arrow
    from pyarrow import parquet

    time, number = arrow.timestamp("ms"), arrow.float64()
    kinds = [arrow.string(), time, time, arrow.int32(), *[number] * (len(names) - 4)]
    schema = arrow.schema(list(zip(names, kinds, strict=True)))
    waiting: list[list[Any]] = []
    rows = 0  # in them

    with parquet.ParquetWriter(path, schema) as file:

        def flush() -> None:
            nonlocal rows
            if waiting:
                columns = [np.concatenate(column) for column in zip(*waiting, strict=True)]
                arrays = [arrow.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
                file.write_table(arrow.table(arrays, schema=schema))
                waiting.clear()
                rows = 0

        def write(scored: Scored) -> None:
            nonlocal rows
            n = len(scored.label)
            times = [t.astype("datetime64[ms]") for t in (scored.made_ms, scored.time_ms)]
            ids = np.full(n, scored.stream, object)
            waiting.append([ids, *times, np.full(n, scored.horizon), scored.label, scored.mean, *scored.quantiles.T])
            rows += n
            if rows >= AT_ONCE:
                flush()

        yield write
        flush()
