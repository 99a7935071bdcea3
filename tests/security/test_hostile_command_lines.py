"""Command lines and files that no one would write on purpose: an exit code and one sentence, never a traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.__main__ import main
from worker.demo import feed, newyork
from worker.http import container_probe
from worker.http.pages import Pages
from worker.http.server import Server
from worker.observe.pulse import Pulse
from worker.refusal import Refusal

LONG, DIGITS = "a" * 300, "1" * 5000
TABLE = "stream,time,value\n" + "".join(f"\u00fc\U0001f600,{1_600_000_000 + 60 * i},{i}\n" for i in range(5))

Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """The one sentence on standard error."""

    def read() -> str:
        [line] = capsys.readouterr().err.splitlines()
        assert line.isprintable()
        return line

    return read


def history(folder: Path, text: str = TABLE) -> str:
    path = folder / "history.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", LONG], "--json is aaa"),
        (["--plot", f"{LONG}.html"], "--plot is aaa"),
        (["--score-rows", f"{DIGITS}:"], "--score-rows is '111"),
        (["--score-rows", f":{DIGITS}"], "--score-rows is ':111"),
    ],
)
def test_options_too_long_for_the_system_are_2(arguments: list[str], words: str, said: Said, tmp_path: Path) -> None:
    assert main(["backtest", history(tmp_path), *arguments]) == 2
    assert said().startswith(f"foldcast: {words}")


@pytest.mark.parametrize("rate", ["nan", "inf", "-inf", "1e400", "0", "-1"])
def test_a_rate_that_is_none_is_2(
    rate: str, said: Said, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"--rate is {float(rate):g}; it must be a number above 0"
    assert main(["demo", "--no-keep", f"--rate={rate}"]) == 2
    assert said() == f"foldcast: {words}"
    monkeypatch.setattr("sys.argv", ["feed", f"--rate={rate}"])
    assert feed.main() == 2
    assert capsys.readouterr().err == f"feed: {words}\n"


@pytest.mark.parametrize(
    ("option", "number"),
    [
        ("partitions", "0"),
        ("partitions", "-1"),
        ("partitions", "9" * 20),
        ("replication", "0"),
        ("replication", "40000"),
    ],
)
def test_a_number_that_no_topic_can_have_is_2(option: str, number: str, said: Said) -> None:
    assert main(["topics", "create", f"--{option}={number}"]) == 2
    assert said().startswith(f"foldcast: --{option} is {number}; it must be ")


def test_a_feeder_with_wrong_settings_is_2(monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    monkeypatch.setattr("sys.argv", ["feed"])
    monkeypatch.setenv("FOLDCAST_KAFKA__GROUP", "x")
    assert feed.main() == 2
    assert said().startswith("feed: environment variable FOLDCAST_KAFKA__GROUP is no setting")


def test_a_feeder_without_its_data_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> list[newyork.Event]:
        raise RuntimeError("pip cannot fetch it")

    monkeypatch.setattr(newyork, "events", none)
    with pytest.raises(Refusal, match="the data cannot be fetched: pip cannot fetch it"):
        list(feed.years(0, 1))


@pytest.mark.parametrize(
    "value", [b"\xff", b"[]", b'"x"', b'{"time": "2020-01-01"}', b'{"time": null}', b'{"time": []}']
)
def test_a_topic_with_events_of_others_is_not_fed(value: bytes) -> None:
    with pytest.raises(Refusal, match="events ends with a record that is not this feeder's"):
        feed.time_of(value, "events")


@pytest.mark.parametrize(
    "text", ["[http\n", "http = 3", "[http]\nport = 'x'", "[http]\nhost = 3\nport = [1]", "[" * 3000]
)
def test_a_container_probe_with_a_broken_file_is_1(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "broken.toml"
    config.write_text(text)
    monkeypatch.setenv("FOLDCAST_CONFIG", str(config))
    assert container_probe.main() == 1
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(("no address to ask: ", "no answer on port "))


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "x"), ("PORT", "99999"), ("HOST", "\u00fc..a"), ("HOST", "a b\u2028")]
)
def test_a_container_probe_of_no_address_is_1(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"FOLDCAST_HTTP__{name}", value)
    assert container_probe.main() == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("host", ["\u00fc..a", LONG, "nowhere.invalid"])
def test_a_host_that_cannot_be_is_a_sentence(host: str) -> None:
    from prometheus_client import CollectorRegistry

    with pytest.raises(Refusal, match="cannot be had"):
        Server(host, 0, Pages(CollectorRegistry(), dict, Pulse(), 60))


def test_a_terminal_that_has_no_such_letters_gets_others(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker", "backtest", history(tmp_path)]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, "a progress bar may stand there, where the machine is busy"
    assert "\\xfc\\U0001f600" in done.stdout


def test_a_stream_cannot_draw_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = TABLE.replace("\u00fc", "\x1b[31m\u202e") + "\u202e,never,1\n"
    assert main(["backtest", history(tmp_path, text)]) == 0
    told = capsys.readouterr()
    assert "?[31m" in told.out
    assert "row 7: 'never' is neither ISO 8601 nor epoch" in told.err
    assert all(line.isprintable() for line in (told.out + told.err).splitlines())


def test_a_damaged_file_of_parquet_is_one_line(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    import worker.backtest.run as module

    def fails(*_: object) -> None:
        raise OSError("Couldn't deserialize thrift: invalid data\nDeserializing page header failed.\n")

    monkeypatch.setattr(module, "records", fails)
    assert main(["backtest", history(tmp_path)]) == 1
    assert said().endswith(
        "cannot be read: Couldn't deserialize thrift: invalid data Deserializing page header failed."
    )
