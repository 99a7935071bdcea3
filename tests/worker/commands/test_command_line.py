"""The command line: help with an example, exit codes, and errors that are one sentence on stderr."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from io import StringIO
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from worker import __version__
from worker.__main__ import main
from worker.commands import COMMANDS

# No broker answers there; the client would otherwise try for ten seconds
HURRIED = (
    "import sys, worker.broker.security as security; security.BOOTSTRAP_TIMEOUT_MS = 200; "
    "from worker.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
NOBODY = """
[kafka]
bootstrap_servers = "127.0.0.1:1"
[http]
host = "127.0.0.1"
port = 0
[worker]
commit_timeout_s = 0.01
give_up_s = 0.1
"""


def hurried(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own: a worker sets up logs and a watchdog, a client that fails leaves sockets."""
    command = [sys.executable, "-c", HURRIED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture
def nobody(tmp_path: Path) -> str:
    """Settings that name a broker which is not there."""
    path = tmp_path / "nobody.toml"
    path.write_text(NOBODY)
    return str(path)


def sentence(text: str) -> str:
    """The one line that it is."""
    assert text.endswith("\n")
    [line] = text.splitlines()
    assert line.startswith("foldcast: ")
    assert "Traceback" not in line
    return line


EXAMPLES = {name: import_module(f"worker.commands.{name.replace('-', '_')}").EXAMPLE for name in COMMANDS}


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_ends_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    assert words.endswith(f"example: {EXAMPLES[command]}")


def test_every_command_has_an_example_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    from worker.__main__ import _given

    for command, example in EXAMPLES.items():
        given = _given(example.split()[1:])
        assert given.command == command
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {command}" in text for command in EXAMPLES)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"foldcast {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run", "--fast"],
        ["run", "now"],
        ["topics"],
        ["topics", "destroy"],
        ["topics", "create", "--partitions", "many"],
        ["backtest"],
        ["demo", "--rate", "fast"],
        ["dead-letters"],
        ["dead-letters", "list", "--since", "yesterday"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("foldcast")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["list", "--limit", "-1"], "--limit is -1"),
        (["show", "0"], "'0'"),
        (["show", "0:" + 30 * "9"], "as in 0:17"),
        (["resend"], "say --all"),
    ],
)
def test_dead_letters_are_named_or_refused(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", *arguments]) == 2
    assert word in sentence(capsys.readouterr().err)


@pytest.mark.parametrize("command", [["run"], ["topics", "check"], ["warm"]])
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[kafka]\ngroup = 'x'", "kafka.group"),
        ("[worker]\nmin_cycle_ms = -1", "worker.min_cycle_ms"),
        ("[model]\nhorizons = [3, 1]", "model.horizons"),
        ("[kafka", "TOML"),
    ],
)
def test_wrong_settings_are_2_and_one_sentence_with_their_name(
    command: list[str], text: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    assert main([*command, "--config", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert word in sentence(said.err)


def test_a_settings_file_that_is_not_there_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in sentence(capsys.readouterr().err)


def test_a_wrong_variable_is_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FOLDCAST_KAFKA__GROUP", "x")
    assert main(["topics", "check"]) == 2
    assert "FOLDCAST_KAFKA__GROUP" in sentence(capsys.readouterr().err)


def test_a_checkpoint_that_is_not_there_is_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOLDCAST_MODEL__CHECKPOINT", str(tmp_path / "none.safetensors"))
    assert main(["warm"]) == 1
    assert "model.checkpoint cannot be read" in sentence(capsys.readouterr().err)


def test_a_checkpoint_of_another_model_is_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "what.safetensors"
    path.write_bytes(b"not weights at all")
    monkeypatch.setenv("FOLDCAST_MODEL__CHECKPOINT", str(path))
    assert main(["warm"]) == 1
    assert "model.checkpoint does not fit" in sentence(capsys.readouterr().err)


def test_a_worker_whose_broker_does_not_answer_gives_up_with_1(nobody: str) -> None:
    said = hurried("run", "--config", nobody)
    assert said.returncode == 1
    assert "worker.give_up_s" in sentence(said.stderr)
    assert " INFO listening port=" in said.stdout, "probes are answered meanwhile"


def test_a_worker_that_waits_for_its_broker_says_for_which_how_long_and_why(nobody: str, tmp_path: Path) -> None:
    patient = tmp_path / "patient.toml"
    patient.write_text(Path(nobody).read_text().replace("give_up_s = 0.1", "give_up_s = 60"))
    command = [sys.executable, "-c", HURRIED, "run", "--config", str(patient)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as worker:
        assert worker.stdout is not None
        try:
            lines = iter(worker.stdout)
            port = next(found[1] for line in lines if (found := re.search(r" listening port=(\d+)", line)))
            for _ in range(3):  # between them are pauses of 0.5 and 1 s
                failure = next(line for line in lines if " WARNING BrokerError: " in line)
            page = json.loads(answered(port, "/api/status"))
            ready, text = answered(port, "/readyz"), answered(port, "/")
        finally:
            worker.kill()
            worker.stdout.read()
    error = failure.split(" WARNING BrokerError: ")[1].split("; ")[0]
    assert page["ready"] is False
    assert page["waiting_s"] >= 1
    assert page["reason"] == f"not in the group yet at 127.0.0.1:1, for {page['waiting_s']} s: {error}"
    for shown in (ready.rstrip("\n"), json.loads(text)["reason"]):
        assert re.sub(r"\d+ s:", "N s:", shown) == f"not in the group yet at 127.0.0.1:1, for N s: {error}"


def answered(port: str, path: str) -> str:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            text: str = answer.read().decode()
            return text
    except HTTPError as error:
        with error:
            return error.read().decode()


def test_topics_without_a_broker_are_1(nobody: str) -> None:
    said = hurried("topics", "check", "--config", nobody)
    assert said.returncode == 1
    assert "did not answer" in sentence(said.stderr)


@pytest.mark.parametrize(("answer", "words"), [("no\n", ""), ("", "foldcast: nobody answers here: say --yes\n")])
def test_a_reset_that_nobody_agrees_to_does_nothing(
    answer: str, words: str, nobody: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(answer))
    assert main(["topics", "reset", "--config", nobody]) == 1
    said = capsys.readouterr()
    assert said.err == words
    assert "deletes the state" in said.out


# ---- back-test


def walks_csv(folder: Path, streams: int = 4, events: int = 300) -> Path:
    """Streams that go up and down by turns."""
    path = folder / "walks.csv"
    rows = [f"s{s},{1_700_000_000 + 60 * i},{(i * (3 + s)) % 17 + s}" for i in range(events) for s in range(streams)]
    path.write_text("\n".join(["stream,time,value", *rows]))
    return path


def backtested(folder: Path, *arguments: str) -> dict[str, int]:
    """Its updates, as the JSON has them."""
    out = folder / "scores.json"
    assert main(["backtest", str(walks_csv(folder)), "--json", str(out), *arguments]) == 0
    return dict(json.loads(out.read_text())["updates"])


def test_update_every_makes_fewer_updates_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = backtested(tmp_path)
    assert f"\n{usual['updates']} updates, " in capsys.readouterr().out
    assert usual["updates"] == usual["adopted"] + usual["rolled_back"] > 30, "every 32 of 1,200 events"
    rare = backtested(tmp_path, "--update-every", "1000")
    assert (rare["updates"], rare["adopted"]) == (1, 1)
    assert "\n1 updates, 0 of them clipped, 1 adopted, 0 rolled back, " in capsys.readouterr().out
    assert sum(backtested(tmp_path, "--update-every", "5000").values()) == 0
    both = backtested(tmp_path, "--update-every", "300", "--partitions", "2")
    assert 2 <= both["updates"] <= 4, "of both partitions together"


AFTER_A_BACKTEST = """
from worker.__main__ import main
assert main(["backtest", "no such file"]) == 1
import gc, numpy as np
from pipeline.learning.fine_tune import Optimiser, Schedule, fine_tune
from pipeline.network.model import Network, Shape
from pipeline.learning.windows import Windows
draw = np.random.default_rng(1).normal
sizes = (24, 128, 16), (24, 128, 5), (128, 1, 1, 64)
windows = Windows(*(draw(size=size).astype(np.float32) for size in sizes), np.zeros(128, np.int64))
network = Network(Shape("gru", 16, 64, 1, (1, 3, 6, 12, 24)))
for _ in range(3):
    network.take(fine_tune(network.shape, network.weights, Optimiser.blank(), windows, Schedule())[0])
print(network.digest(), gc.isenabled(), gc.get_freeze_count() > 50_000)
"""


def test_a_backtest_learns_the_same_bits_whatever_threads_the_shell_allows_and_spares_the_collector() -> None:
    """Matrices and vectors so large that BLAS would share them out."""
    told = {
        subprocess.run(
            [sys.executable, "-c", AFTER_A_BACKTEST],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2")
    }
    [words] = told
    assert words.endswith(" True True\n")


def test_without_learning_there_are_no_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOLDCAST_FINE_TUNE__ENABLED", "false")
    assert set(backtested(tmp_path).values()) == {0}
    assert "updates" not in capsys.readouterr().out
    for stream in json.loads((tmp_path / "scores.json").read_text())["streams"].values():
        for horizon in stream["horizons"].values():
            assert horizon["mse"] < 2 * horizon["last_value"]["mse"], "the base weights say no change"


def test_update_every_without_learning_is_2_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOLDCAST_FINE_TUNE__ENABLED", "false")
    assert main(["backtest", str(walks_csv(tmp_path)), "--update-every", "10"]) == 2
    assert "--update-every needs learning" in sentence(capsys.readouterr().err)


@pytest.mark.parametrize("number", ["0", "-3"])
def test_update_every_less_than_one_is_2_and_one_sentence(
    number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", str(walks_csv(tmp_path)), "--update-every", number]) == 2
    assert f"--update-every is {number}; it must be 1 or more" in sentence(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--partitions", "0"], "--partitions is 0; it must be 1 or more"),
        (["--score-rows", "5:3"], "--score-rows is '5:3', which is none"),
        (
            ["--json", "nowhere/scores.json"],
            "--json is nowhere/scores.json; it must be a file in a directory that there is",
        ),
        (["--plot", "nowhere/x.png"], "--plot is nowhere/x.png; it must be a file in a directory that there is"),
        (["--json", "."], "--json is .; it must be a file in a directory that there is"),
        (["--plot", "x.pdf"], "--plot is x.pdf; it must end in .html, .png or .svg"),
    ],
)
def test_a_backtest_that_cannot_be_is_2_before_the_work(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", "no such file", *arguments]) == 2
    assert words in sentence(capsys.readouterr().err)


@pytest.mark.parametrize("option", ["--json", "--forecasts", "--plot"])
def test_a_backtest_does_not_write_over_its_history(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = walks_csv(tmp_path)
    before = history.read_bytes()
    assert main(["backtest", str(history), option, str(tmp_path / "." / history.name)]) == 2
    assert "which is the history itself: name another file" in sentence(capsys.readouterr().err)
    assert history.read_bytes() == before


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_where_nobody_reads_on_it_ends_quietly(unbuffered: str, tmp_path: Path) -> None:
    history = walks_csv(tmp_path, streams=2, events=30)
    command = [sys.executable, "-m", "worker", "backtest", str(history)]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        said = subprocess.run(
            command,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert said.returncode == 1
    assert [line for line in said.stderr.splitlines() if "B/s" not in line] == [], "but for the progress"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_sentence(unbuffered: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "worker", "backtest", str(walks_csv(tmp_path, streams=2, events=30))]
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1] == "foldcast: [Errno 28] No space left on device"


def test_without_a_standard_output_there_is_still_an_exit_code(tmp_path: Path) -> None:
    history, out = walks_csv(tmp_path, streams=2, events=30), tmp_path / "scores.json"
    command = f"{sys.executable} -m worker backtest {history} --json {out} >&-"
    assert subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE).returncode == 0
    assert out.exists()
