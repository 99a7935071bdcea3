"""Commands load what they need and nothing else: a start costs what is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.commands import COMMANDS

HEAVY = ("torch", "numba", "kafka", "pyarrow", "matplotlib")
CODE = """
import sys
from worker.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as left:
    code = left.code
print("code", code, *(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""
NOBODY = """
[kafka]
bootstrap_servers = "127.0.0.1:1"
"""


def loaded(*arguments: str) -> tuple[str, set[str]]:
    """The exit code, and which heavy packages the command has loaded."""
    command = [sys.executable, "-c", CODE.format(heavy=HEAVY), *arguments]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    word, code, *names = done.stderr.splitlines()[-1].split()
    assert word == "code", done.stderr
    return code, set(names)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(*arguments) == ("0", set())


@pytest.mark.parametrize("action", [["check"], ["create", "--partitions", "1"]])
def test_topics_are_made_and_checked_without_torch(action: list[str], tmp_path: Path) -> None:
    config = tmp_path / "nobody.toml"
    config.write_text(NOBODY)
    assert loaded("topics", *action, "--config", str(config)) == ("1", {"kafka"})


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["dead-letters", "list"],
        ["dead-letters", "show", "0:1"],
        ["dead-letters", "resend", "0:1", "--yes"],
    ],
)
def test_what_lies_in_the_topics_is_looked_at_without_torch(command: list[str], tmp_path: Path) -> None:
    config = tmp_path / "nobody.toml"
    config.write_text(NOBODY)
    assert loaded(*command, "--config", str(config)) == ("1", {"kafka"})


def test_a_replay_loads_no_more_than_the_fold_needs(tmp_path: Path) -> None:
    config = tmp_path / "nobody.toml"
    config.write_text(NOBODY)
    assert loaded("replay", "--partition", "0", "--config", str(config)) == ("1", {"kafka", "numba"})


def test_a_back_test_and_warming_load_no_kafka_client(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("stream,time,value\n" + "".join(f"a,2020-01-01T{hour:02}:00:00Z,{hour}\n" for hour in range(20)))
    assert loaded("backtest", str(history)) == ("0", {"numba"})
    assert loaded("warm") == ("0", {"numba"})


def test_a_worker_runs_without_torch(tmp_path: Path) -> None:
    config = tmp_path / "nobody.toml"
    config.write_text(f"{NOBODY}\n[worker]\ncommit_timeout_s = 1\ngive_up_s = 2\n[http]\nport = 0\n")
    assert loaded("run", "--config", str(config)) == ("1", {"kafka", "numba"})


def test_torch_is_loaded_for_the_networks_that_are_torchs(tmp_path: Path) -> None:
    config = tmp_path / "lstm.toml"
    config.write_text('[model]\ncell = "lstm"\n')
    assert loaded("warm", "--config", str(config)) == ("0", {"torch", "numba"})
