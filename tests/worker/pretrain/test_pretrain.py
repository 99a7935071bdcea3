"""The command from outside: its text, what it refuses, what a back-test makes of its file, and the input as history."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.network.checkpoint import Checkpoint
from worker.__main__ import main
from worker.broker.contract import LogRecord
from worker.pretrain import kept, topic

BEGIN_S, N = 1_600_300_800, 160
HEAD = """\
learnt from history.csv (4 streams, 640 events)
horizon     labels    before     after     skill
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDCAST_MODEL__HORIZONS", "[1, 3]")
    monkeypatch.setenv("FOLDCAST_MODEL__HIDDEN_SIZE", "8")
    monkeypatch.setenv("FOLDCAST_FINE_TUNE__WINDOW", "8")


def rows(seed: int = 1) -> list[tuple[str, int, float]]:
    rng, t = np.random.default_rng(seed), np.arange(N)
    waves = [np.sin(2 * np.pi * t / period) + rng.normal(0, 0.05, N) for period in rng.uniform(7, 17, 4)]
    return [(f"s{s}", BEGIN_S + 3600 * i, float(waves[s][i])) for i in range(N) for s in range(4)]


@pytest.fixture
def history(tmp_path: Path) -> str:
    path = tmp_path / "history.csv"
    path.write_text("\n".join(["stream,time,value", *(f"{s},{t},{v}" for s, t, v in rows())]))
    return str(path)


def test_the_text_is_this_and_the_file_says_the_same(
    history: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "base.safetensors"
    assert main(["pretrain", history, "--out", str(out), "--epochs", "4", "--about", "mine, CC0"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("compiling kernels") or said.err == ""  # the first time on a machine
    assert said.out.startswith(HEAD)
    *figures, what, warning, last = said.out.removeprefix(HEAD).splitlines()
    assert what.startswith("squared error of the network alone on held-out time")
    assert warning == "that time also chose the epoch: expect a little less skill on what is new"
    found = Checkpoint.load(out.read_bytes())
    assert last.startswith(f"{out}: {found.updates} updates in 4 epochs")
    assert (found.header["about"], found.header["data"]) == ("mine, CC0", "history.csv (4 streams, 640 events)")
    for line, (h, row) in zip(figures, json.loads(found.header["held out"]).items(), strict=True):
        error = row["error"]
        assert 0 < error < 1
        assert line.split() == [h, str(row["labels"]), "1.000", f"{error:.3f}", f"{1 - error:.3f}"]
    assert not list(tmp_path.glob("*.part"))


def test_a_back_test_begins_with_it_and_says_so(
    history: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, scores = tmp_path / "base.safetensors", tmp_path / "scores.json"
    assert main(["pretrain", history, "--out", str(out), "--epochs", "40"]) == 0
    asked = ["backtest", history, "--score-rows", "0:100", "--json", str(scores)]
    errors = []
    for checkpoint in (None, out):
        if checkpoint is not None:
            monkeypatch.setenv("FOLDCAST_MODEL__CHECKPOINT", str(checkpoint))
        capsys.readouterr()
        assert main(asked) == 0
        line = f"weights to begin with: {checkpoint}, learnt from history.csv (4 streams, 640 events)\n"
        assert (line in capsys.readouterr().out) == (checkpoint is not None)
        whole = json.loads(scores.read_text())
        errors.append([s["horizons"]["1"]["experts"]["network"]["mse"] for s in whole["streams"].values()])
    assert (np.array(errors[1]) < np.array(errors[0])).all()


def test_a_checkpoint_of_another_shape_or_other_inputs_is_refused(
    history: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "base.safetensors"
    assert main(["pretrain", history, "--out", str(out), "--epochs", "1"]) == 0
    monkeypatch.setenv("FOLDCAST_MODEL__CHECKPOINT", str(out))
    monkeypatch.setenv("FOLDCAST_MODEL__HIDDEN_SIZE", "9")
    capsys.readouterr()
    assert main(["backtest", history]) == 1
    words = "it was trained with hidden_size = 8, and here it is hidden_size = 9; set [model] as it was trained"
    assert words in capsys.readouterr().err
    monkeypatch.setenv("FOLDCAST_MODEL__HIDDEN_SIZE", "8")
    found = Checkpoint.load(out.read_bytes())
    out.write_bytes(Checkpoint(found.weights, {**found.header, "features": "height"}).dump())
    assert main(["backtest", history]) == 1
    assert "features = height, and here it is features = change,level" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give FILE..., --corpus or both, or --from-topic"),
        (["FILE", "--from-topic"], "give FILE..., --corpus or both, or --from-topic"),
        (["FILE", "--held-out", "1"], "--held-out is 1; it must be a share"),
        (["FILE", "--held-out", "nan"], "--held-out is nan; it must be a share"),
        (["FILE", "--epochs", "0"], "--epochs is 0; it must be 1 or more"),
        (["FILE", "--out", "FILE"], "which is the history itself"),
        (["FILE", "--out", "/no/where/base"], "it must be a file in a directory that there is"),
    ],
)
def test_wrong_usage_is_2(
    arguments: list[str], says: str, history: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [history if word == "FILE" else word for word in arguments]
    assert main(["pretrain", "--out", str(tmp_path / "base"), *given]) == 2
    assert says in capsys.readouterr().err


def test_a_history_that_teaches_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "short.csv", tmp_path / "base"
    path.write_text("stream,time,value\n" + "".join(f"a,{BEGIN_S + 3600 * i},5\n" for i in range(40)))
    assert main(["pretrain", str(path), "--out", str(out)]) == 1
    assert "give a longer" in capsys.readouterr().err
    assert not out.exists()


# ---- interrupted


def test_an_interrupted_training_goes_on_and_ends_with_the_same_file(
    history: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "base"
    command = ["pretrain", history, "--epochs", "4", "--out"]
    assert main([*command, str(whole)]) == 0
    write, written = kept.write, list[int]()

    def interrupted(*given: object) -> None:
        write(*given)  # type: ignore[arg-type]
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(kept, "write", interrupted)
    assert main([*command, str(out)]) == 130
    assert "the same command on the same history goes on there" in capsys.readouterr().err
    assert Checkpoint.load(out.read_bytes()).training.keys() == {"own", "first", "second", "mean", "numbers"}
    assert main([*command, str(out)]) == 0
    assert f"{out} goes on after epoch 2" in capsys.readouterr().err
    assert len(written) == 4
    one, other = (Checkpoint.load(path.read_bytes()) for path in (out, whole))
    assert one.header == other.header
    for tensors, theirs in ((one.weights, other.weights), (one.training, other.training)):
        assert tensors.keys() == theirs.keys()
        assert all(np.array_equal(tensors[name], theirs[name]) for name in theirs)


def test_a_file_that_is_no_interrupted_training_of_this_history_is_kept(
    history: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "base"
    assert main(["pretrain", history, "--epochs", "1", "--out", str(out)]) == 0
    for there in (out.read_bytes(), b"something else"):
        out.write_bytes(there)
        assert main(["pretrain", history, "--epochs", "1", "--held-out", "0.3", "--out", str(out)]) == 1
        assert "which is there and is no interrupted training of this history" in capsys.readouterr().err
        assert out.read_bytes() == there


# ---- the input


def the_input_has(records: list[LogRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second of three partitions; in the others is nothing."""

    def whole(_logs: object, _topic: str, partition: int) -> Iterator[LogRecord]:
        yield from records if partition == 1 else ()

    monkeypatch.setattr(topic, "bounds", lambda *_: {0: (7, 7), 1: (100, 2100), 2: (0, 0)})
    monkeypatch.setattr(topic, "LogReader", lambda _: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(topic, "whole", whole)
    monkeypatch.setattr(topic, "AT_ONCE", 50)


def records_of(history: list[tuple[str, int, float]], faster: int = 1) -> list[LogRecord]:
    times = [BEGIN_S + (t - BEGIN_S) / faster for _, t, _ in history]
    return [
        LogRecord(s.encode(), json.dumps({"stream": s, "time": t, "value": v}).encode(), (), 100 + 3 * i)
        for i, ((s, _, v), t) in enumerate(zip(history, times, strict=True))
    ]


def test_the_input_topic_teaches_as_its_file_does(
    history: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = records_of(rows())
    records.insert(5, LogRecord(b"x", b"no event", (), 113, 0))
    the_input_has(records, monkeypatch)
    out, other = tmp_path / "base", tmp_path / "other"
    assert main(["pretrain", "--from-topic", "--epochs", "2", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "(4 streams, 640 events)" in said.out
    assert "1 refused (undecodable), the first in events-1, offset 113: " in said.err
    assert main(["pretrain", history, "--epochs", "2", "--out", str(other)]) == 0
    one, two = (Checkpoint.load(path.read_bytes()).weights for path in (out, other))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_steps_of_milliseconds_in_the_input_topic_are_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pretrain", "--from-topic", "--epochs", "1", "--out"]
    for faster, said in ((1, 0), (10_000, 1)):
        the_input_has(records_of(rows(), faster), monkeypatch)
        assert main([*command, str(tmp_path / f"{said}")]) == 0
        assert capsys.readouterr().err.count("is the unit right?") == said


def test_a_topic_that_memory_cannot_hold_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(topic, "bounds", lambda *_: {0: (0, 10**7), 1: (5, 10**9)})
    monkeypatch.setattr(topic, "memory_there", lambda: (1 << 30, "cgroup limit"))
    assert main(["pretrain", "--from-topic", "--out", str(tmp_path / "base")]) == 1
    said = capsys.readouterr().err
    assert "for the 1,009,999,995 offsets of " in said
    assert "there are 1,024 (cgroup limit): give more memory" in said
