"""The back-test is the worker's engine over a file: the same bits, scores that a few lines of numpy agree with.

It learns as it goes; whatever the data and the rate, forecasts stay finite and the weights are no worse than none.
"""

import gzip
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pytest
from pyarrow import parquet

from pipeline.backtest.backtest import Record, backtest, partition_of
from pipeline.backtest.inline import InlineTrainer
from pipeline.backtest.scores import names_of, scores
from pipeline.backtest.scoring import Scoring
from pipeline.backtest.tally import FORECAST
from pipeline.decoding.times import Times, from_iso
from pipeline.events import Decoder, Format
from pipeline.forecasts import Forecasts, joined
from pipeline.learning.fine_tune import Schedule
from pipeline.method import Method
from pipeline.network.model import Network, Shape
from pipeline.parts.experts import part_names
from pipeline.parts.regression import BOUND
from pipeline.shard import Shard
from tests.rigs.methods import SMALL, WIND
from tests.rigs.shard_rigs import restless, said, said_of
from worker.backtest.columns import HistoryError
from worker.backtest.files import records
from worker.backtest.run import UPDATE_WORDS, Asked, BacktestError, run, silent
from worker.backtest.table import WHAT
from worker.commands.backtest import score_rows
from worker.demo.newyork import events
from worker.plan import Plan
from worker.refusal import Refusal, WrongUsage

METHOD = SMALL
HOUR_MS = 3_600_000
STREAMS, N = 5, 120


def plan_of(method: Method = METHOD, form: Format | None = None) -> Plan:
    return Plan(method, {}, Decoder(form or Format()), seed=1, checkpoint=None, start="earliest", skip_gaps=False)


def walks(seed: int = 1) -> np.ndarray:
    """(N, STREAMS), each with its own units."""
    steps = np.random.default_rng(seed).normal(size=(N, STREAMS))
    return np.cumsum(steps, axis=0) * 10.0 ** np.arange(-2, STREAMS - 2) + 5


def iso(i: int) -> str:
    return f"2024-01-{1 + i // 24:02}T{i % 24:02}:00:00Z"


def long_csv(values: np.ndarray) -> str:
    lines = [f"s{s},{iso(i)},{float(v)!r}" for i, row in enumerate(values) for s, v in enumerate(row)]
    return "\n".join(["stream,time,value", *lines]) + "\n"


def wide_csv(values: np.ndarray) -> str:
    lines = [",".join([iso(i), *(repr(float(v)) for v in row)]) for i, row in enumerate(values)]
    return "\n".join(["time," + ",".join(f"s{s}" for s in range(STREAMS)), *lines]) + "\n"


def written(folder: Path, text: str | bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, form: Format | None = None) -> list[Record]:
    with path.open("rb") as file:
        return list(records(file, form or Format()))


def restless_shards(method: Method, partitions: int = 1) -> list[Shard]:
    return [Shard(method, restless(method), 0, {}) for _ in range(partitions)]


def forecasts_of(some: Iterable[Record], method: Method = METHOD, partitions: int = 1, batch: int = 97) -> Forecasts:
    shards = restless_shards(method, partitions)
    return joined([part.forecasts for part in backtest(some, shards, Decoder(Format()), batch=batch)])


def fold_file(
    path: Path, plan: Plan | None = None, rows: str | None = None, every: int | None = None, out: Path | None = None
) -> int:
    """One partition, learning every so many events (None: not at all)."""
    plan = plan or plan_of()
    shard = Shard(plan.method, plan.network(), 0, plan.settings, parts=True)
    trainers = [] if every is None else [InlineTrainer(shard, Schedule(), every)]
    return run(path, plan, [shard], trainers, Asked(score_rows(rows), json=out))


def result(path: Path, plan: Plan | None = None, rows: str | None = None, every: int | None = None) -> dict[str, Any]:
    out = path.with_suffix(".json")
    assert fold_file(path, plan, rows, every, out) == 0
    return dict(json.loads(out.read_text()))


# ---- the engine


def test_the_file_gives_the_bits_that_the_worker_gives_for_the_same_events(tmp_path: Path) -> None:
    values = walks()
    places = [(i, s) for i in range(N) for s in range(STREAMS)]
    bodies = [
        json.dumps(
            {"value": float(values[i, s]), "stream": f"s{s}", "time": 1_704_067_200 + 3600 * i, "more": []}
        ).encode()
        for i, s in places
    ]
    (shard,), decoder, parts = restless_shards(METHOD), Decoder(Format()), []
    for low in range(0, len(bodies), 50):
        some = bodies[low : low + 50]
        batch, rejected = decoder.decode(range(low, low + len(some)), [2**42] * len(some), [None] * len(some), some)
        assert not rejected
        parts.append(shard.advance(batch))
    worker = joined(parts)
    file = forecasts_of(read(written(tmp_path, long_csv(values))))
    file.record_ms[:] = worker.record_ms
    assert said(file) == said(worker)


def test_long_wide_and_gzip_are_the_same_events(tmp_path: Path) -> None:
    values = walks()
    plain = read(written(tmp_path, long_csv(values)))
    expected = [r._replace(place=0) for r in plain]
    assert len(plain) == N * STREAMS
    for text in (
        wide_csv(values),
        gzip.compress(wide_csv(values).encode()),
        "\ufeff" + long_csv(values).replace("\n", "\r\n"),
        gzip.compress(long_csv(values).encode()),
    ):
        assert [r._replace(place=0) for r in read(written(tmp_path, text))] == expected
    assert [r.place for r in plain[:2]] == [2, 3]


def test_partitions_and_batches_change_no_bit(tmp_path: Path) -> None:
    some = read(written(tmp_path, long_csv(walks())))
    one = forecasts_of(some)
    assert len({partition_of(f"s{s}", 3) for s in range(STREAMS)}) > 1
    for partitions, batch in ((1, 1000), (3, 1000), (3, 8)):
        other = forecasts_of(some, partitions=partitions, batch=batch)
        assert len(other.name) == N * STREAMS
        for s in range(STREAMS):
            assert said_of(other, f"s{s}") == said_of(one, f"s{s}")


# ---- scores


def plainly(f: Forecasts, name: str, method: Method, j: int, first: int, last: int | None) -> dict[str, Any]:
    """One stream and horizon, all at once."""
    mine, h = [i for i, n in enumerate(f.name) if n == name], method.horizons[j]
    value, mean, q = f.value[mine], f.mean[mine, j], f.quantiles[mine, j]
    made = [i for i in range(len(mine) - h) if first <= i and (last is None or i < last)]
    label = np.array([value[i + h] for i in made])
    loss = [
        max(t * (y - b), (t - 1) * (y - b))
        for i, y in zip(made, label, strict=True)
        for t, b in zip(method.quantiles, q[i], strict=True)
    ]
    return {
        "n": len(made),
        "mse": np.mean((label - mean[made]) ** 2),
        "mae": np.mean(np.abs(label - mean[made])),
        "last_value": {"mse": np.mean((label - value[made]) ** 2), "mae": np.mean(np.abs(label - value[made]))},
        "coverage": {
            str(level): np.mean((q[made, k] <= label) & (label <= q[made, -1 - k]))
            for k, level in enumerate(method.band_levels)
        },
        "width": {str(level): np.mean(q[made, -1 - k] - q[made, k]) for k, level in enumerate(method.band_levels)},
        "pinball": np.mean(loss),
        **plain_skill(f, mine, method, j, made),
    }


def plain_skill(f: Forecasts, mine: list[int], method: Method, j: int, made: list[int]) -> dict[str, Any]:
    """Errors end at ten scales; outliers, and labels that come before there are scales, do not count."""
    e, h = f.events[mine], method.horizons[j]
    out = [min(abs(x["error"][0]), abs(x["naive"][0])) > 10 for x in e]
    sums, plain, season = {"mean": 0.0, "value": 0.0, "seasonal": 0.0}, [], 24
    for i in made:
        y, scale = e["value"][i + h], e["error_scale"][i + h, j]
        by = {"mean": e["mean"][i, j], "value": e["value"][i]}
        by["seasonal"] = e["value"][i + h - season if i >= 20 and i + h >= season else i]
        plain.append(y - by["seasonal"])
        for name, x in by.items():
            if not np.isnan(scale) and not out[i] and not out[i + h]:
                off = abs(np.log(y) - np.log(x)) if method.transform == "log" else abs(y - x)
                sums[name] += ((y - x) * min(1, 10 * scale / off if off else 1)) ** 2
    skills = {"skill": sums["value"], "skill_seasonal": sums["seasonal"]}
    return {
        "seasonal": {"mse": np.mean(np.square(plain)), "mae": np.mean(np.abs(plain))},
        **{name: 1 - sums["mean"] / base if base else None for name, base in skills.items()},
    }


def flat(tree: dict[str, Any]) -> dict[str, float]:
    return {
        f"{k}.{inner}": v
        for k, value in tree.items()
        for inner, v in (flat(value) if isinstance(value, dict) else {"": value}).items()
    }


@pytest.mark.parametrize(("first", "last"), [(0, None), (50, None), (0, 30), (17, 93), (N - 2, None), (40, 41)])
@pytest.mark.parametrize("transform", ["none", "log"])
def test_scores_are_what_plain_numpy_says(tmp_path: Path, first: int, last: int | None, transform: Any) -> None:
    method = replace(METHOD, transform=transform)
    values = np.exp(walks() / 1e4) if transform == "log" else walks()
    some = read(written(tmp_path, long_csv(values)))
    forecasts = forecasts_of(some, method)
    for batch in (1, 23, 10_000):
        scoring = Scoring(method, first, last)
        for part in backtest(some, restless_shards(method, 2), Decoder(Format()), batch=batch):
            scoring.take(part.forecasts)
        whole: Any = scores(scoring.tallies, method)
        for name, stream in whole["streams"].items():
            assert stream["events"] == N
            for j, h in enumerate(method.horizons):
                expected = plainly(forecasts, name, method, j, first, last) if first + h < N else None
                if expected is None:
                    assert str(h) not in stream["horizons"]
                else:
                    told_of = flat(stream["horizons"][str(h)])
                    numbers = {name: number for name, number in flat(expected).items() if number is not None}
                    assert {name: told_of[name] for name in numbers} == pytest.approx(numbers, rel=1e-9)
                    assert {name for name, number in told_of.items() if number is None} == told_of.keys() - numbers


def test_walks_cannot_be_forecast_and_cost_next_to_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = result(written(tmp_path, long_csv(walks())))
    for stream in whole["streams"].values():
        for horizon in stream["horizons"].values():
            assert 0 < horizon["mse"] < 1.2 * horizon["last_value"]["mse"]
    assert all(-0.1 < h["skill"] < 0.1 for h in whole["overall"]["horizons"].values())
    assert whole["overall"]["horizons"]["3"]["n"] == STREAMS * (N - 3)
    assert whole["overall"]["events"] == STREAMS * N
    assert (whole["refused"], whole["seconds"] > 0) == ({}, True)
    out, err = capsys.readouterr()
    means = ("mean of all", "seasonal naive", *part_names(METHOD))
    assert len(out.splitlines()) == 1 + STREAMS + len(means) + len(WHAT) + STREAMS + 1
    assert err == ""


def test_the_table_has_the_worst_stream_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "time,still,walk\n" + "".join(f"{i},1,{i * i % 7}\n" for i in range(60)))
    network = restless(METHOD)
    fold_file(path, replace(plan_of(), checkpoint=network.dump()))
    head, *lines = capsys.readouterr().out.splitlines()[:3]
    assert head.split() == ["stream", "events", "skill@1", "skill@3", "on", "season", "in", "95%", "in", "80%", "width"]
    assert [line.split()[0] for line in lines] == ["walk", "still"]
    assert lines[1].split()[1:] == ["60", "-", "-", "-", "100.0%", "100.0%", "0"]


def test_event_indices_count_accepted_events_only(tmp_path: Path) -> None:
    lines = ["stream,time,value"]
    for i in range(40):
        lines += [
            f"a,{iso(i)},{i}",
            f"a,{iso(i)},{i}",
            f"a,{iso(i)},",
            f"a,{iso(i)},NA",
            f"a,{iso(0)},7",
            f"a,{iso(i)},x",
        ]
    whole = result(written(tmp_path, "\n".join(lines)), rows="10:12")
    assert whole["streams"]["a"]["events"] == 40
    assert whole["streams"]["a"]["horizons"]["1"]["n"] == 2
    assert whole["streams"]["a"]["horizons"]["3"]["last_value"]["mse"] == 9
    assert whole["refused"] == {"wrong_type": 40}


# ---- what single parts say


def day_like(days: int) -> np.ndarray:
    """(24 * days, 2), the same every day, but for one that grows."""
    hours = np.arange(24 * days)
    shape = np.random.default_rng(3).normal(size=24)[hours % 24]
    return np.stack([shape, shape + hours * 1e-3], axis=1)


def records_of(values: np.ndarray) -> list[Record]:
    return [
        Record(i, f"s{s}", HOUR_MS * i, b'{"stream":"s%d","time":%d,"value":%r}' % (s, 3600 * i, float(v)))
        for i, row in enumerate(values)
        for s, v in enumerate(row)
    ]


@pytest.mark.parametrize("profile", ["full", "lite"])
def test_parts_are_told_where_asked_and_change_no_bit(profile: Any) -> None:
    method, values = replace(METHOD, profile=profile), day_like(12)
    shards = [Shard(method, restless(method), 0, {}, parts=asked) for asked in (False, True)]
    plain, told_of = (
        joined([part.forecasts for part in backtest(records_of(values), [shard], Decoder(Format()), batch=50)])
        for shard in shards
    )
    assert said(plain) == said(told_of._replace(parts=plain.parts))
    assert (plain.parts.shape[2], told_of.parts.shape[2]) == (0, len(part_names(method)))
    parts = told_of.parts[told_of.offset % 2 == 0]  # (T, Z, X) of the stream that repeats itself
    for j, h in enumerate(method.horizons):
        assert parts[48:-h, j, 0] == pytest.approx(values[48 + h :, 0], abs=1e-9), "the seasonal naive"
        assert np.abs(parts[48:, j, 1] - values[48:, 0]).max() > 1e-3, "a network that is not silent"
    if profile == "full":
        last_day = slice(24 * 10, 24 * 11)
        off = np.abs(parts[last_day, 0, 2:] - values[24 * 10 + 1 : 24 * 11 + 1, 0, None]).mean(axis=0)
        assert (off < 0.3 * np.abs(np.diff(values[:, 0])).mean()).all(), "linear expert and stacking know the day"
        row, z = shards[1].table.rows[shards[1].table.index["s0"]], values[-1, 0]
        phi = row["linear_seen"][(row["count"] - 1) % method.longest] / method.ring_unit(BOUND)
        linear = z + row["linear_weights"] @ phi * row["scale"][: len(method.horizons)]
        assert parts[-1, :, 2] == pytest.approx(linear, abs=1e-3 * float(row["step_scale"]))
        assert np.abs(parts[-1, :, 3] - linear).min() > 0.01 * row["step_scale"], "the stacking is another"


def test_what_says_nothing_does_not_pile_up() -> None:
    scoring, missing = Scoring(METHOD), Record(0, "a", HOUR_MS, b'{"stream":"a","time":3600,"value":null}')
    for part in backtest([missing] * 5, restless_shards(METHOD), Decoder(Format()), batch=1):
        scoring.take(part.forecasts)
    assert scoring._taken == []
    assert scoring.tallies == {}


def test_parts_are_scored_as_plain_numpy_does() -> None:
    scoring, some = Scoring(METHOD, 30, 200), records_of(day_like(12))
    shard, plain = restless_shards(METHOD)[0], []
    shard = Shard(METHOD, shard.network, 0, {}, parts=True)
    for part in backtest(some, [shard], Decoder(Format()), batch=70):
        scoring.take(part.forecasts)
        plain.append(part.forecasts)
    f: Any = joined(plain)
    whole: Any = scores(scoring.tallies, METHOD)
    for name, s in (("s0", 0), ("s1", 1)):
        value, parts = f.value[f.offset % 2 == s], f.parts[f.offset % 2 == s]
        for j, h in enumerate(METHOD.horizons):
            off = value[30 + h : 200 + h, None] - parts[30:200, j]
            told_of = whole["streams"][name]["horizons"][str(h)]
            for x, part_name in enumerate(names_of(METHOD)):
                mine = told_of["experts"][part_name]
                assert mine["mse"] == pytest.approx(np.mean(off[:, x] ** 2), rel=1e-9)
                assert mine["mae"] == pytest.approx(np.mean(np.abs(off[:, x])), rel=1e-9)
    s0, s1 = (whole["streams"][name]["horizons"]["3"] for name in ("s0", "s1"))
    skills = [1 - s["experts"]["stack"]["mse"] / s["last_value"]["mse"] for s in (s0, s1)]
    assert whole["overall"]["horizons"]["3"]["experts"]["stack"]["skill"] == pytest.approx(np.mean(skills))


def test_ablate_scores_the_method_with_a_network_that_says_nothing(tmp_path: Path) -> None:
    network, path = restless(METHOD), tmp_path / "x.csv"
    path.write_text(long_csv(walks()))
    plan = replace(plan_of(), checkpoint=network.dump())
    out = tmp_path / "x.json"
    shards = [Shard(METHOD, network, 0, {}, parts=True)]
    assert run(path, plan, shards, [], Asked(json=out), silent(plan, 2)) == 0
    whole = json.loads(out.read_text())
    fresh = Scoring(METHOD)  # an untrained network's head is zero: it says nothing either
    for part in backtest(read(path), [Shard(METHOD, Network(Shape.of(METHOD)), 0, {})], Decoder(Format())):
        fresh.take(part.forecasts)
    for name, tally in fresh.tallies.items():
        for j, h in enumerate(METHOD.horizons):
            mine = whole["streams"][name]["horizons"][str(h)]
            assert mine["experts"]["without_network"]["mse"] == tally.squared[j, FORECAST] / tally.n[j] != mine["mse"]
    assert whole["overall"]["horizons"]["1"]["experts"].keys() == {*names_of(METHOD), "without_network"}


def test_the_table_ends_with_what_each_part_is_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, plan = tmp_path / "x.csv", plan_of()
    path.write_text(
        "time,a,b\n" + "".join(f"{3600 * i},{a!r},{b!r}\n" for i, (a, b) in enumerate(day_like(12).tolist()))
    )
    shard = Shard(METHOD, plan.network(), 0, {}, parts=True)
    assert run(path, plan, [shard], [], Asked((100, None)), silent(plan, 1)) == 0
    lines = capsys.readouterr().out.splitlines()
    named = {line[:18].strip(): [float(cell) for cell in line[18:].split()] for line in lines[3 : -1 - len(WHAT) - 2]}
    words = ["seasonal naive", "season slots", "network", "linear expert", "stacking", "without network"]
    assert list(named) == ["mean of all", *words]
    assert named["mean of all"] == named["without network"] > [0.5, 0.5]
    assert named["network"] == [0, 0], "it has learnt nothing: the last value"
    assert named["season slots"] == pytest.approx(named["seasonal naive"])
    assert named["season slots"] > [0.99, 0.99]
    assert lines[-1] == f"{shard.table.row_bytes:,} bytes of state per stream"


# ---- files


def events_in(path: Path, form: Format | None = None) -> list[tuple[str, int, float | None, int, list[float]]]:
    """Streams, times, values, lines and covariates as a worker would see them."""
    some = read(path, form)
    batch, rejected = Decoder(form or Format()).decode(
        range(len(some)), [r.timestamp_ms for r in some], [None] * len(some), [r.value for r in some]
    )
    assert not rejected
    assert [r.stream for r in some] == batch.name
    assert [r.timestamp_ms for r in some] == batch.time_ms.tolist()
    values = [None if np.isnan(v) else v for v in batch.value.tolist()]
    return [
        (n, t, v, r.place, c)
        for n, t, v, r, c in zip(
            batch.name, batch.time_ms.tolist(), values, some, batch.covariates.tolist(), strict=True
        )
    ]


def test_parquet_is_the_same_events_as_csv(tmp_path: Path) -> None:
    path, form = tmp_path / "x.parquet", Format(covariates=("wind",))
    ms = [1_704_067_200_000 + HOUR_MS * i for i in range(5)]
    values = [1.5, None, float("nan"), 4.0, -7e-9]
    csv_path = written(
        tmp_path,
        "stream,time,value,wind\n"
        + "".join(
            f"a,{t},{'' if v is None or v != v else v},{w}\n" for t, v, w in zip(ms, values, range(5), strict=True)
        ),
    )
    expected = [(*event[:3], place, event[4]) for place, event in enumerate(events_in(csv_path, form), 1)]
    for times in (
        arrow.array(ms),
        arrow.array([m * 1_000_000 + 999 for m in ms], arrow.timestamp("ns", "Europe/Paris")),
        arrow.array(ms, arrow.timestamp("ms")),
        arrow.array([m / 1000 for m in ms]),
        arrow.array([m // 1000 for m in ms], arrow.timestamp("s", "No/Where")),
        arrow.array([str(m) for m in ms]).dictionary_encode(),
    ):
        table = arrow.table(
            {
                "value": arrow.array(values),
                "wind": arrow.array(range(5), arrow.int8()),
                "time": times,
                "stream": ["a"] * 5,
            }
        )
        parquet.write_table(table, path, row_group_size=2)
        assert events_in(path, form) == expected
    wide = arrow.table({"time": ms, "a": arrow.array(values, arrow.float32()), "b": [1, 2, 3, 4, 5]})
    parquet.write_table(wide, path)
    assert [e[0] for e in events_in(path)] == ["a", "b"] * 5
    assert [e[2] for e in events_in(path)][::2] == [1.5, None, None, 4.0, float(np.float32(-7e-9))]
    assert result(path)["streams"]["b"]["events"] == 5


def test_old_and_far_times_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    days = [-1, 0, 1, 40_000_000]
    seconds = arrow.array([d * 86_400 for d in days], arrow.timestamp("s"))
    for times in (arrow.array(days, arrow.int32()).cast(arrow.date32()), seconds):
        parquet.write_table(arrow.table({"time": times, "stream": [b"JFK"] * 4, "value": [1, 2, 3, 4]}), path)
        some = read(path)
        assert [r.timestamp_ms for r in some[:3]] == [-86_400_000, 0, 86_400_000]
        assert some[0].stream == "JFK"
        assert result(path)["refused"] == {"bad_time": 1}


def test_a_parquet_file_that_is_none_and_cells_that_are_no_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, b"PAR1 and nothing of the kind", "x.parquet")
    with pytest.raises(HistoryError, match="no Parquet file that can be read"):
        fold_file(path)
    cells = {"time": [0, 1, 2, 3], "a": [[1.0], [2.0], None, [3.0]], "b": [float("inf"), 1.0, 2.0, 3.0]}
    parquet.write_table(arrow.table(cells), path)
    whole = result(path)
    assert whole["refused"] == {"wrong_type": 4}
    assert "the first in row 1" in capsys.readouterr().err
    assert whole["streams"]["b"]["events"] == 3


def test_without_pyarrow_a_parquet_file_is_refused_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(HistoryError, match=r"pip install 'foldcast\[parquet\]'"):
        fold_file(written(tmp_path, b"PAR1", "x.parquet"))


def test_bad_rows_are_refused_by_reason_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        "stream,time,value,wind",
        "a,2024-01-01,1,2",
        "a,2024-01-02,inf,2",
        "a,2024-01-02,2,windy",
        "a,noon,2,2",
        "a,,2,2",
        ",2024-01-02,2,2",
        f"{'n' * 256},2024-01-02,2,2",
        "a,2024-01-02,1e200,2",
        "",
        "a,1704240000,3,NA",
        '"a",1704326400.5,4,',
    ]
    form = Format(covariates=("wind",))
    plan = plan_of(WIND, form)
    whole = result(written(tmp_path, "\n".join(rows)), plan=plan)
    assert whole["streams"]["a"]["events"] == 3
    assert whole["refused"] == {
        "wrong_type": 2, "bad_time": 1, "no_time": 1, "no_stream": 1, "name_too_long": 1, "out_of_range": 1,
    }  # fmt: skip
    assert "2 refused (wrong_type), the first in row 3: " in capsys.readouterr().err


def times_of(folder: Path, *texts: str) -> tuple[list[int], list[tuple[int, str]]]:
    """Of the events, and which were refused why."""
    some = read(written(folder, "time,a\n" + "".join(f"{text},1\n" for text in texts)))
    form = [r.timestamp_ms for r in some], [b"a"] * len(some), [r.value for r in some]
    batch, rejected = Decoder(Format()).decode(range(len(some)), *form)
    return batch.time_ms.tolist(), [(r.place, r.reason) for r in rejected]


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (("2016/7/1 0:00", "2016/12/31 23:30:15"), ("2016-07-01", "2016-12-31T23:30:15")),
        (("1/2/2010 0:00", "1/31/2010 1:00"), ("2010-01-02", "2010-01-31T01:00")),
        (("1/2/2010", "31/2/2010", "28/2/2010"), ("2010-02-01", "2010-02-28")),
        (("1277942400", "1277942460"), ("2010-07-01", "2010-07-01T00:01")),
        (
            ("1/30/2010 12:05:09 AM", "1/30/2010 1:00 am", "1/30/2010 12:30 PM", "1/30/2010 11 p.m.", "1/31/2010"),
            ("2010-01-30T00:05:09", "2010-01-30T01:00", "2010-01-30T12:30", "2010-01-30T23:00", "2010-01-31"),
        ),
        (("2010-01-02 01:00 AM", "2010-01-02 01:00PM"), ("2010-01-02T01:00", "2010-01-02T13:00")),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_times_are_read_as_the_whole_column_says(
    tmp_path: Path, texts: tuple[str, ...], days: tuple[str, ...], packed: bool
) -> None:
    text = ("time,a\n" + "".join(f"{text},1\n" for text in texts)).encode()
    some = read(written(tmp_path, gzip.compress(text) if packed else text))
    batch, rejected = Decoder(Format()).decode(
        range(len(some)), [r.timestamp_ms for r in some], [None] * len(some), [r.value for r in some]
    )
    assert batch.time_ms.tolist() == [from_iso(day) for day in days]
    assert len(rejected) == len(texts) - len(days), "there is no 31st of February"


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_read_twice_is_whole_however_large(tmp_path: Path, packed: bool) -> None:
    rng = np.random.default_rng(1)
    days = [f"{1 + day // 28}/{1 + day % 28}/2010" for day in range(336)]
    text = "time,a\n" + "".join(f"{day} {hour}:00,{rng.random()}\n" for day in days for hour in range(24))
    some = read(written(tmp_path, gzip.compress(text.encode()) if packed else text))
    assert [r.place for r in some] == [*range(2, 2 + 336 * 24)]
    assert all(a.timestamp_ms < b.timestamp_ms for a, b in pairwise(some))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("1/2/2010", "NA", "3/4/2010"), "times such as '1/2/2010' may have the month first or the day first"),
        (("1/31/2010", "31/1/2010"), "line 3 has the time '31/1/2010', and those above have the month first"),
        (
            ("1/31/2010 1:00 PM", "1/31/2010 14:00"),
            "line 3 has the time '1/31/2010 14:00', and those above have",
        ),
        (("2010-01-31 1:00 PM", "2010-01-31 02:00"), "those above have hours of 1 to 12 with AM or PM: write all as"),
        (("1/31/2010 1:00", "1/31/2010 2:00 PM"), "those above have hours without AM and PM"),
        (("1/31/2010 1:00 PM", "1/31/2010 14:00 PM"), "those above have hours of 1 to 12"),
    ],
)
def test_slashes_that_do_not_say_what_they_mean_are_refused(tmp_path: Path, texts: tuple[str, ...], words: str) -> None:
    with pytest.raises(HistoryError, match=re.escape(words)):
        read(written(tmp_path, "time,a\n" + "".join(f"{text},1\n" for text in texts)))


def test_digits_of_a_file_that_are_no_epoch_are_named(tmp_path: Path) -> None:
    form = Format(times=Times(earliest_ms=631_152_000_000))
    path = tmp_path / "x.parquet"
    parquet.write_table(arrow.table({"time": [20160701, 2016070112, 1_467_331_200], "a": [1, 2, 3]}), path)
    some = read(path, form)
    batch, rejected = Decoder(form).decode(
        range(3), [r.timestamp_ms for r in some], [None] * 3, [r.value for r in some]
    )
    assert batch.time_ms.tolist() == [1_467_331_200_000]
    assert [r.reason for r in rejected] == ["bad_time"] * 2
    assert "a date of 8 digits, write it as 2016-07-01" in rejected[0].message
    assert "a date of 10 digits, write it as 2016-07-01T12:00" in rejected[1].message


def in_file(folder: Path, kind: str, **columns: list[Any]) -> list[Record]:
    """The records of a file with these columns; times before 1990 are not believed."""
    path = folder / f"x.{kind}"
    if kind == "parquet":
        parquet.write_table(arrow.table(columns), path)
    else:
        rows = [columns, *zip(*columns.values(), strict=True)]
        path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return read(path, SINCE_1990)


SINCE_1990 = Format(times=Times(earliest_ms=631_152_000_000))
FILES = pytest.mark.parametrize("kind", ["csv", "parquet"])


@FILES
@pytest.mark.parametrize(
    ("number", "likely"),
    [
        (2016070112, "a date of 10 digits"),
        (201607011230, "a date of 12 digits"),
        (20160701123000, "a date of 14 digits"),
        (42552, "a spreadsheet's day number"),
        (42552.5, "a spreadsheet's day number"),
        (2016, "a year"),
    ],
)
def test_the_rule_for_digits_is_the_same_in_files(tmp_path: Path, kind: str, number: float, likely: str) -> None:
    [record] = in_file(tmp_path, kind, time=[number], a=[1])
    batch, [refused] = Decoder(SINCE_1990).decode([0], [record.timestamp_ms], [None], [record.value])
    assert (batch.name, refused.reason) == ([], "bad_time")
    assert f"it looks like {likely}, write it as " in refused.message


@FILES
def test_whole_numbers_are_streams_and_times_are_read_in_files_as_in_messages(tmp_path: Path, kind: str) -> None:
    times = ["1960-01", "2016-07-01 24:00", "2016-07-02 12:30:00 UTC"]
    some = in_file(tmp_path, kind, stream=[7, 7, 8], time=times, value=[1, 2, 3])
    batch, rejected = Decoder(SINCE_1990).decode(
        range(3), [r.timestamp_ms for r in some], [None] * 3, [r.value for r in some]
    )
    assert (batch.name, rejected) == (["7", "7", "8"], [])
    assert batch.time_ms.tolist() == [from_iso(day) for day in ("1960-01-01", "2016-07-02", "2016-07-02T12:30")]


def test_a_file_s_paths_and_targets_are_columns(tmp_path: Path) -> None:
    form = Format("tags.id", "at", target_fields=("data.temp", "data.rh"), covariates=("data.list.1",))
    path = written(tmp_path, "tags.id,at,data.temp,data.rh,data.list.1\na,2020-01-01,1,,3\n")
    [record] = read(path, form)
    batch, _ = Decoder(form).decode([0], [record.timestamp_ms], [None], [record.value])
    assert (batch.name, batch.value.tolist()[0], batch.covariates.tolist()) == (["a/temp", "a/rh"], 1, [[3], [3]])


@pytest.mark.parametrize("form", [Format(covariates=("wind",)), Format(target_fields=("a", "b"))])
def test_a_wide_file_takes_neither_covariates_nor_targets(tmp_path: Path, form: Format) -> None:
    with pytest.raises(HistoryError, match="are columns of one stream, and here each column is a stream"):
        read(written(tmp_path, "time,a,b\n2020-01-01,1,2\n"), form)


def test_eight_digits_are_a_date_where_the_first_time_is_one(tmp_path: Path) -> None:
    midnight, day = 1_580_428_800_000, 24 * HOUR_MS  # of January the 31st
    taken, refused = times_of(tmp_path, "20200131", "20200201", "20210230", "2020-02-02", "1580688000")
    assert taken == [midnight + i * day for i in range(4)]
    assert refused == [(2, "bad_time")], "no such day"
    assert times_of(tmp_path, "20200060", "20200120") == ([20_200_060_000, 20_200_120_000], []), "seconds"


@pytest.mark.parametrize("text", ["", "NA", "nan", "NaN"])
def test_what_is_missing_in_csv(text: str, tmp_path: Path) -> None:
    whole = result(written(tmp_path, f"time,a\n1,2\n2,{text}\n3,4\n"))
    assert (whole["dropped"]["missing"], whole["refused"]) == (1, {})


def test_names_do_not_break_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a\x1b[31m\nb" in result(written(tmp_path, 'time,"a\x1b[31m\nb"\n1,2\n2,3\n'))["streams"]
    assert "\na?[31m?b " in capsys.readouterr().out


def test_columns_are_found_under_the_settings_names(tmp_path: Path) -> None:
    form = Format("symbol", "at", "price")
    for header in ("price,symbol,at", "value,stream,time"):
        (record,) = read(written(tmp_path, f"{header}\n1,X,0\n"), form)
        batch, rejected = Decoder(form).decode([0], [0], [None], [record.value])
        assert not rejected
        assert (batch.name, batch.value.tolist(), batch.time_ms.tolist()) == (["X"], [1.0], [0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 has no columns"),
        ("\n", "line 1 has no columns"),
        ("stream,value\na,1\n", "there is no column 'time'"),
        ("stream,time\na,1\n", "there is no column 'value'"),
        ("time,a,a\n1,2,3\n", "column 'a' is there twice"),
        ("stream,time,value\na,1\n", "line 2 ends before column 'value'"),
        ("time,a,b\n1,2,3\n\n2,3,4,5\n", "line 4 goes on after the last column, 'b', with '5'"),
        ('time,a\n1,"2\n', "line 2 is no CSV: unexpected end of data"),
        (b"time,a\n1,\xff\n", "it is no text in UTF-8 (invalid start byte): give CSV in UTF-8 or Parquet"),
        ("time;a\n1;2\n", "line 1, 'time;a', is separated by ';': write the file with commas"),
        ("time\ta\n1\t2\n", "is separated by '\\t': write"),
        (
            "unique_id,ds,y\na,1,2\n",
            "among 'unique_id', 'ds', 'y': try --id unique_id --time ds --target y",
        ),
        (
            "unique_id,time,y\na,1,2\n",
            "no column 'stream' among 'unique_id', 'time', 'y': try --id",
        ),
        ("stream,Date,value\na,1,2\n", "among 'stream', 'Date', 'value': try --time Date"),
        ("when,a,b\n1,2,3\n", "no column 'time' among 'when', 'a', 'b': name columns with --id, --time and --target"),
        (
            "id,time,value\na,1,2\n",
            "'time', 'value': give --target value where 'value' is one stream, or --id id that names them",
        ),
        (
            "time,value,quality\n1,2,3\n",
            "among 'time', 'value', 'quality': give --target value where 'value' is one stream, or --id COLUMN that",
        ),
        (gzip.compress(b"time,a\n1,2\n" * 50, mtime=0)[:-9], "cannot be read: Compressed file ended"),
        (b"\x1f\x8bnothing of the kind", "cannot be read"),
        ("time,a\n", "has no event to forecast: 0 late, 0 duplicate, 0 missing"),
        ("time,a\n1,\n2,\n", "has no event to forecast: 0 late, 0 duplicate, 2 missing"),
        ("time,a\n1,x\n2,x\n", "0 missing; 2 refused, row 2: Expected `float | null`, got `str`"),
        ('time,a\n1,"3,5"\n', "a number belongs there, such as 3.5 (not 3,5 or 1,000): empty, NA or nan is missing"),
        ("time,a\n1,x\n", 'it is {"stream":"a","time":1,"value":"x"}'),
    ],
)
def test_a_malformed_file_is_refused_naming_line_and_column(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        fold_file(written(tmp_path, text))
    assert message in str(caught.value)
    assert "x.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_covariate_column_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"no column 'wind' \(events.covariates\) among 'stream', "):
        read(written(tmp_path, "stream,time,value\n"), Format(covariates=("wind",)))
    with pytest.raises(BacktestError, match=r"nowhere\.csv cannot be read"):
        fold_file(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("text", ["5", "a:b", "-1:5", "1:2:3", "", "5:5", "500:100", "0:0"])
def test_score_rows_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="must be A:B"):
        score_rows(text)


def test_what_is_dropped_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest_first = "time,a\n" + "".join(f"{3600 * (50 - i)},{i % 7}\n" for i in range(40)) + "183600,\n180000,0\n"
    path, out = written(tmp_path, newest_first), tmp_path / "x.json"
    assert fold_file(path, out=out) == 1
    whole = json.loads(out.read_text())
    assert whole["dropped"] == {"late": 39, "duplicate": 1, "missing": 1}
    dropped, scored = capsys.readouterr().err.splitlines()
    assert dropped == "39 late, 1 duplicate, 1 missing events were dropped; rows must be in time order"
    assert scored.startswith("nothing is scored: ")


def test_walks_are_covered_as_often_as_said(tmp_path: Path) -> None:
    method = Method()
    scoring = Scoring(method, 300)
    values = np.cumsum(np.random.default_rng(6).normal(size=(3000, 4)), axis=0)
    some = (
        Record(i, f"s{s}", HOUR_MS * i, b'{"stream":"s%d","time":%d,"value":%r}' % (s, 3600 * i, float(v)))
        for i, row in enumerate(values)
        for s, v in enumerate(row)
    )
    shards = [Shard(method, Network(Shape.of(method)), 0, {})]
    for part in backtest(some, shards, Decoder(Format())):
        assert not part.refused
        scoring.take(part.forecasts)
    whole: Any = scores(scoring.tallies, method)["overall"]
    assert whole["horizons"]["1"]["coverage"] == pytest.approx({"0.95": 0.95, "0.8": 0.8}, abs=0.01)


# ---- learning on the way


def told(
    some: Iterable[Record], method: Method = METHOD, schedule: Schedule | None = None, partitions: int = 1, **rest: int
) -> tuple[Forecasts, list[Shard], list[InlineTrainer], list[tuple[int, int, str]]]:
    """Forecasts of all partitions, and which weights came into service where: partition, offset, digest."""
    shards = [Shard(method, Network(Shape.of(method), 1), 0, {}) for _ in range(partitions)]
    trainers = [InlineTrainer(shard, schedule or Schedule(every_events=16)) for shard in shards]
    parts, served = [], []
    for part in backtest(some, shards, Decoder(Format()), trainers, **rest):
        parts.append(part.forecasts)
        shard = shards[part.partition]
        served.append((part.partition, shard.weights_offset, shard.network.digest()))
    return joined(parts), shards, trainers, sorted(set(served))


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_bits_do_not_depend_on_the_batch_while_it_learns(tmp_path: Path, partitions: int) -> None:
    some = read(written(tmp_path, long_csv(walks())))
    forecasts, shards, trainers, served = told(some, partitions=partitions)
    for batch in (1, 7, 333):
        others, again, _, _ = told(some, partitions=partitions, batch=batch)
        for s in range(STREAMS):
            assert said_of(others, f"s{s}") == said_of(forecasts, f"s{s}"), batch
        for one, other in zip(shards, again, strict=True):
            assert (other.network.digest(), other.table.digest()) == (one.network.digest(), one.table.digest())
    assert len(served) > 15
    assert sum(trainer.counts["adopted"] for trainer in trainers) >= len(served) - partitions


def test_the_batch_does_not_matter_where_most_streams_fall_silent() -> None:
    """100 streams in the first 10,000 records, 10 after that: they count as active until the third 10,000 begin."""
    rng, level, some = np.random.default_rng(1), np.zeros(100), []
    for i in range(20_500):
        s, time_ms = i % (100 if i < 10_000 else 10), 1_700_000_000_000 + 1000 * i
        level[s] += rng.normal()
        body = b'{"stream":"s%d","time":%d,"value":%r}' % (s, time_ms, float(level[s]))
        some.append(Record(i, f"s{s}", time_ms, body))
    few = Schedule(streams=2)
    _, (one,), (trainer,), served = told(some, schedule=few)
    _, (other,), (again,), _ = told(some, schedule=few, batch=97)
    assert len(served) > 50
    assert (again.counts, other.weights_offset) == (trainer.counts, one.weights_offset)
    assert other.network.digest() == one.network.digest()


def test_updates_are_counted_in_the_json_and_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, long_csv(walks()))
    updates, more = result(path, every=16)["updates"], result(path, every=8)["updates"]
    assert list(updates) == list(UPDATE_WORDS)
    assert updates == {
        "updates": 35,
        "clipped": updates["clipped"],
        "adopted": 35,
        "rolled_back": 0,
        "nonfinite": 0,
        "too_few_windows": 2,
    }, "streams have no window before their 8th event"
    assert (more["updates"], more["too_few_windows"]) == (71, 4)
    last = next(line for line in capsys.readouterr().out.splitlines() if " updates, " in line)
    words = f"35 updates, {updates['clipped']} of them clipped, 35 adopted, 0 rolled back, 0 not finite"
    assert last == f"{words}, 2 without windows"
    assert set(result(path)["updates"].values()) == {0}
    assert "updates" not in capsys.readouterr().out.splitlines()[-1]


def test_an_update_comes_after_so_many_accepted_events_and_not_after_others(tmp_path: Path) -> None:
    """Late, missing and refused records do not count."""
    lines = long_csv(walks()).splitlines()
    more = [line for good in lines[1:] for line in (good, "s0,2023-01-01,5", "s1,2024-01-01,", "s2,noon,3")]
    plain, padded = (
        told(read(written(tmp_path, "\n".join([lines[0], *some]), name)))
        for name, some in (("plain.csv", lines[1:]), ("padded.csv", more))
    )
    assert len(padded[0].name) == len(plain[0].name) == N * STREAMS
    assert padded[2][0].counts["updates"] == plain[2][0].counts["updates"] > 15
    first = [served[1] for served in (plain[3][1], padded[3][1])]
    assert first[1] == 4 * first[0] - 3, "at once after the event that made it due"


# ---- whatever comes (New York's weather, hourly, 18 streams)


HOURS = 330


@cache
def weather() -> tuple[tuple[str, int, float | None], ...]:
    return tuple(events()[: 18 * HOURS])


def weather_records(change: Any = None) -> list[Record]:
    rng, found = np.random.default_rng(4), []
    for i, (stream, time_ms, value) in enumerate(weather()):
        if change is not None:
            value = change(rng, stream, i, value)
        body = json.dumps({"stream": stream, "time": time_ms, "value": value}).encode()
        found.append(Record(i, stream, time_ms, body))
    return found


def spikes(rng: np.random.Generator, stream: str, i: int, value: float | None) -> float | None:
    """0.3 % of 50 steps: an hour moves a temperature by about 2."""
    return value + 100.0 * rng.choice([-1, 1]) if value is not None and rng.random() < 0.003 else value


def holes(rng: np.random.Generator, stream: str, i: int, value: float | None) -> Any:
    """Null, and what JSON cannot say of a number."""
    kind = rng.random()
    return None if kind < 0.1 else float("nan") if kind < 0.15 else "nan" if kind < 0.2 else value


def stuck(rng: np.random.Generator, stream: str, i: int, value: float | None) -> float | None:
    return 40.0 if stream.startswith("EWR") and i > 18 * 60 else value


def worth(trainer: InlineTrainer, shard: Shard, forecasts: Forecasts) -> float:
    """Of the last hundred hours: the network's clipped loss by the last value's."""
    error, naive = (np.clip(a[-1800:, 0], -4, 4) for a in (forecasts.error, forecasts.naive))
    return float(np.nansum(error**2) / np.nansum(naive**2))


def finite(forecasts: Forecasts, shard: Shard) -> bool:
    weights = all(bool(np.isfinite(w).all()) for w in shard.network.weights.values())
    return weights and all(bool(np.isfinite(a).all()) for a in (forecasts.mean, forecasts.quantiles))


@pytest.mark.parametrize("times", [1, 10, 200, 1000])
def test_a_rate_that_is_far_too_high_is_rolled_back(times: float) -> None:
    schedule = Schedule(learning_rate=2e-3 * times)
    forecasts, (shard,), (trainer,), _ = told(weather_records(), METHOD, schedule)
    assert finite(forecasts, shard)
    assert trainer.counts["updates"] > 80
    assert worth(trainer, shard, forecasts) < 1.1, "at the end no worse than the last value, but for a little"
    assert times < 200 or trainer.counts["rolled_back"] > 0
    assert times > 1 or trainer.counts["rolled_back"] == 0


@pytest.mark.parametrize("change", [spikes, holes, stuck])
def test_bad_data_leaves_forecasts_finite_and_weights_unharmed(change: Any) -> None:
    forecasts, (shard,), (trainer,), _ = told(weather_records(change), METHOD, Schedule())
    assert finite(forecasts, shard)
    assert trainer.counts["updates"] > 70
    assert trainer.counts["nonfinite"] == 0
    assert worth(trainer, shard, forecasts) < 1.05
