"""Forecasts as a file join those of other libraries: a row per forecast whose label came, and nothing else."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from worker.__main__ import main
from worker.backtest import export
from worker.refusal import WrongUsage

N, HORIZONS = 60, (1, 3, 6, 12, 24)
NAMES = ["unique_id", "cutoff", "ds", "horizon", "y", "mean", "q0.025", "q0.1", "q0.5", "q0.9", "q0.975"]


def history(folder: Path) -> tuple[Path, "np.ndarray[Any, Any]"]:
    """Two walks, as statsforecast has them."""
    values = np.cumsum(np.random.default_rng(7).normal(size=(N, 2)), axis=0).round(3)
    rows = [f"{'ab'[k]},{moment(i)},{values[i, k]}" for k in range(2) for i in range(N)]
    path = folder / "walks.csv"
    path.write_text("\n".join(["unique_id,ds,y", *rows]))
    return path, values


def moment(i: int) -> str:
    return f"2024-01-{1 + i // 24:02}T{i % 24:02}:00:00.000"


def written(folder: Path, suffix: str, *arguments: str) -> arrow.Table:
    path, _ = history(folder)
    out = folder / f"forecasts.{suffix}"
    columns = ["--id", "unique_id", "--time", "ds", "--target", "y"]
    assert main(["backtest", str(path), *columns, "--forecasts", str(out), *arguments]) == 0
    return parquet.read_table(out) if suffix == "parquet" else arrow_csv.read_csv(out)


def test_every_scored_forecast_is_a_row(tmp_path: Path) -> None:
    table, (_, values) = written(tmp_path, "parquet", "--score-rows", "10:40"), history(tmp_path)
    assert table.schema.names == NAMES
    assert table.schema.field("ds").type == table.schema.field("cutoff").type == arrow.timestamp("ms")
    rows = {
        (r["unique_id"], r["horizon"], r["cutoff"].isoformat(timespec="milliseconds")): r for r in table.to_pylist()
    }
    assert len(rows) == table.num_rows
    due = {("ab"[k], h, moment(i)): (i + h, k) for k in range(2) for h in HORIZONS for i in range(10, 40) if i + h < N}
    assert rows.keys() == due.keys()
    for key, (label, k) in due.items():
        row = rows[key]
        assert row["ds"].isoformat(timespec="milliseconds") == moment(label)
        assert row["y"] == values[label, k]
        quantiles = [row[name] for name in NAMES[6:]]
        assert quantiles == sorted(quantiles)
        assert quantiles[0] <= row["mean"] <= quantiles[-1]


def test_csv_has_the_same_rows(tmp_path: Path) -> None:
    one, other = written(tmp_path, "parquet"), written(tmp_path, "csv")
    assert other.schema.names == NAMES
    assert other.column("ds").cast(arrow.timestamp("ms")).to_pylist() == one.column("ds").to_pylist()
    for name in ("unique_id", "horizon", "y", "mean", "q0.1"):
        assert other.column(name).to_pylist() == one.column(name).to_pylist()


def test_it_joins_the_forecasts_of_others_and_the_score_is_the_same(tmp_path: Path) -> None:
    """Of another library's cross-validation, which has unique_id, ds, cutoff, y and a column by model."""
    table = written(tmp_path, "parquet")
    theirs = table.select(["unique_id", "ds", "cutoff"]).append_column("Naive", table.column("y"))
    both = table.join(theirs, keys=["unique_id", "ds", "cutoff"])
    assert both.num_rows == table.num_rows
    assert (both.column("Naive").to_numpy() == both.column("y").to_numpy()).all()


def test_few_rows_wait_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written(tmp_path, "parquet")
    monkeypatch.setattr(export, "AT_ONCE", 50)
    assert written(tmp_path, "parquet").equals(whole)
    assert parquet.ParquetFile(tmp_path / "forecasts.parquet").num_row_groups > 3


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_where_it_cannot_be_written_is_one_sentence(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = history(tmp_path)
    full = tmp_path / f"full.{suffix}"
    full.symlink_to("/dev/full")
    assert (
        main(["backtest", str(path), "--id", "unique_id", "--time", "ds", "--target", "y", "--forecasts", str(full)])
        == 1
    )
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("foldcast: the forecasts cannot be written: ")


def test_another_ending_and_no_pyarrow_are_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongUsage, match=r"it must end in .csv or .parquet"):
        export.check(Path("x.feather"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    export.check(Path("x.csv"))
    with pytest.raises(export.ExportError, match=r"name a file that ends in \.csv"):
        export.check(Path("x.parquet"))
