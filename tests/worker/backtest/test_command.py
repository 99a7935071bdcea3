"""The command from outside: its text, its JSON, its exit codes, and terminals and users that have little."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from worker.__main__ import main
from worker.backtest.table import WHAT
from worker.kernels import warming

BEGIN_S = 1_600_300_800  # whole weeks since 1970
N = 700
GOLDEN = """\
stream               events   skill@1   skill@3 on season    in 95%    in 80%     width
walk                    700 SCORES
day                     700 SCORES
mean of all                 SCORES
  seasonal naive            SCORES
  season slots              SCORES
  network                   SCORES
  linear expert             SCORES
  stacking                  SCORES
{what}
walk: the last value is as good: use the band; a random walk: no change says anything about the next one \
(step 1 h, a season of 24 events)
day: use it (step 1 h, a season of 24 events)
  4 of 700 values are outliers, which skill leaves out
  -9999 (3 times) looks like a sentinel for no reading: leave such cells empty
"""
ERRORS = {"mse", "mae"}
HORIZON = {"n", "skill", "skill_seasonal", "last_value", "seasonal", "experts", "coverage", "width", "pinball"} | ERRORS
STREAM = {"events", "outliers", "horizons", "step_ms", "season", "sentinels", "spikes", "verdict", "why", "better"}
WHOLE = {"streams", "overall", "refused", "dropped", "state_bytes", "updates", "seconds"}


@pytest.fixture(autouse=True)
def _compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where kernels are compiled: the first time on a machine says so."""
    monkeypatch.setattr(warming, "compiling_is_told", nullcontext)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A walk and a day with sentinels, in columns of other names."""
    for name, value in {"MODEL__HORIZONS": "[1, 3]", "MODEL__HIDDEN_SIZE": "8", "FINE_TUNE__WINDOW": "8"}.items():
        monkeypatch.setenv(f"FOLDCAST_{name}", value)  # those of SMALL
    rng, t = np.random.default_rng(2), np.arange(N)
    day = 20 + 3 * np.sin(2 * np.pi * t / 24) + rng.normal(size=N)
    day[[200, 400, 600]] = -9999
    walk = np.cumsum(rng.normal(size=N))
    rows = [f"{name},{BEGIN_S + 3600 * i},{v}" for i in range(N) for name, v in (("day", day[i]), ("walk", walk[i]))]
    path = tmp_path / "history.csv"
    path.write_text("\n".join(["unique_id,ds,y", *rows]))
    return str(path)


NAMED = ("--id", "unique_id", "--time", "ds", "--target", "y")


def test_the_text_is_this(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", history, *NAMED]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()[:-3]  # updates, weights and bytes
    shown = [line[:28] + "SCORES" if 0 < i < 9 else line for i, line in enumerate(lines)]
    assert "\n".join(shown) + "\n" == GOLDEN.format(what="\n".join(WHAT))
    assert all(len(line) == len(lines[0]) for line in lines[1:3])


def test_json_has_these_keys(history: str, tmp_path: Path) -> None:
    out = tmp_path / "x.json"
    assert main(["backtest", history, *NAMED, "--ablate", "--json", str(out)]) == 0
    whole: Any = json.loads(out.read_text())
    assert whole.keys() == WHOLE
    for stream in whole["streams"].values():
        assert stream.keys() == STREAM
        for horizon in stream["horizons"].values():
            assert horizon.keys() == HORIZON
            assert horizon["last_value"].keys() == horizon["seasonal"].keys() == ERRORS
            names = {"season_slots", "network", "linear", "stack", "without_network"}
            assert horizon["experts"].keys() == names
            assert horizon["coverage"].keys() == horizon["width"].keys() == {"0.95", "0.8"}
    assert whole["overall"].keys() == {"events", "outliers", "skill", "horizons"}
    assert whole["overall"]["horizons"]["3"].keys() == {
        "n", "skill", "skill_seasonal", "seasonal", "experts", "coverage",
    }  # fmt: skip
    assert whole["streams"]["day"]["sentinels"] == {"-9999": 3}
    assert (whole["streams"]["walk"]["season"], whole["streams"]["walk"]["step_ms"]) == (24, 3_600_000)


@pytest.mark.parametrize(("required", "code"), [("-0.5", 0), ("0.1", 0), ("0.9", 1)])
def test_a_skill_can_be_required(history: str, required: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", history, *NAMED, f"--require-skill={required}"]) == code
    err = capsys.readouterr().err
    assert (err == "") == (code == 0)
    assert code == 0 or err.startswith("the mean skill over streams and horizons is 0.")


def test_a_required_skill_that_cannot_be_told_is_not_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "still.csv"
    path.write_text("time,a\n" + "".join(f"{BEGIN_S + 3600 * i},7\n" for i in range(60)))
    assert main(["backtest", str(path), "--require-skill", "0"]) == 1
    err = capsys.readouterr().err
    assert err == (
        "the last value was never wrong, so that there is no skill to tell, and --require-skill 0 is not met\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--require-skill", "nan"), "must be a number"),
        (("--plot-stream", "day"), "give --plot"),
        (("--forecasts", "x.txt"), "must end in .csv or .parquet"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    history: str, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", history, *NAMED, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_columns_that_are_not_there_are_named(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", history, "--id", "series"]) == 1
    assert "there is no column 'series' (--id) among 'unique_id', 'ds', 'y'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(("step_ms", "doubts"), [(60, 1), (60_000, 0)])
def test_steps_of_milliseconds_are_asked_about_once_a_file(
    tmp_path: Path, kind: str, step_ms: int, doubts: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path, times = tmp_path / f"history.{kind}", [1000 * BEGIN_S + step_ms * i for i in range(60)]
    if kind == "csv":
        path.write_text("stream,time,value\n" + "".join(f"s,{ms},{i % 7}\n" for i, ms in enumerate(times)))
    else:
        table = pyarrow.table({"stream": ["s"] * 60, "time": times, "value": [i % 7 for i in range(60)]})
        parquet.write_table(table, path)
    assert main(["backtest", str(path), "--ablate"]) == 0
    err = capsys.readouterr().err
    assert err.count(f"steps of {step_ms} ms: ") == doubts
    assert err.count("is the unit right?") == doubts


def test_one_column_of_many_is_a_stream_of_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ett.csv"
    path.write_text("date,load,temp\n" + "".join(f"{BEGIN_S + 3600 * i},{i % 7},x\n" for i in range(60)))
    assert main(["backtest", str(path), "--time", "date", "--target", "load"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[1].startswith("load ")


def test_a_terminal_of_ascii_and_a_log_get_no_bar_and_no_traceback(history: str) -> None:
    path = Path(history)
    path.write_text(path.read_text().replace("day,", "täglich,"))
    env = {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PATH": os.environ["PATH"]}
    code = "import worker.backtest.run as r, sys; r.QUIET_S = 0; from worker.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "backtest", history, *NAMED, "--plot", str(path.with_suffix(".html"))]
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    assert (done.returncode, done.stderr.decode("ascii")) == (0, "")
    assert "t\\xe4glich" in done.stdout.decode("ascii")
