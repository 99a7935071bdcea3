"""The built-in corpus from outside: families and open data, series that are held out, a base to begin from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.clock import Series
from pipeline.corpus.families import FAMILIES
from pipeline.network.checkpoint import Checkpoint
from tests.rigs.methods import SMALL
from worker import plan
from worker.__main__ import main
from worker.demo import open_data
from worker.pretrain import corpus
from worker.settings.settings import Settings

METHOD = SMALL
BEGIN_S, HOUR_MS = 1_600_300_800, 3_600_000


def walk(seed: int, events: int) -> Series:
    rng = np.random.default_rng(seed)
    return Series(BEGIN_S * 1000 + HOUR_MS * np.arange(events), np.cumsum(rng.standard_normal(events)))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus of few short series, whose open data need no network."""
    monkeypatch.setenv("FOLDCAST_MODEL__HORIZONS", "[1, 3]")
    monkeypatch.setenv("FOLDCAST_MODEL__HIDDEN_SIZE", "8")
    monkeypatch.setenv("FOLDCAST_FINE_TUNE__WINDOW", "8")
    for name, number in (("LEARNT", 4), ("HELD_OUT", 2), ("EVENTS", 100)):
        monkeypatch.setattr(corpus, name, number)

    def every(say: object) -> Iterator[open_data.Data]:
        yield open_data.Data("walks", "nobody==1, CC0-1.0", [walk(seed, 250) for seed in range(7)])

    monkeypatch.setattr(open_data, "every", every)


def test_a_base_is_made_of_all_families_and_open_data_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "base.safetensors"
    assert main(["pretrain", "--corpus", "--epochs", "3", "--about", "a test", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    begin = next(i for i, line in enumerate(printed) if line.startswith("held out of"))
    rows = [line.split() for line in printed[begin + 1 : begin + 1 + len(FAMILIES) + 1]]
    assert [row[0] for row in rows] == [*FAMILIES, "walks"]
    assert all(float(row[-1]) > 0 and len(row) == 4 for row in rows)
    found = Checkpoint.load(out.read_bytes())
    assert found.header["about"] == "a test; walks: nobody==1, CC0-1.0"
    assert found.header["data"].startswith("seasons (6 streams, 600 events), trends (6 streams")
    assert found.header["data"].endswith("walks (7 streams, 1,400 events)")


def test_series_are_held_out_whole() -> None:
    for source in corpus.synthetic(METHOD, 0):
        data = source.sequences
        held_out = np.array([(~np.isnan(part)).any() for part in np.split(data.held_out, data.begins[1:-1])])
        learnt = np.array([(~np.isnan(part)).any() for part in np.split(data.labels, data.begins[1:-1])])
        assert not (held_out & learnt).any(), source.name
        assert learnt.sum() >= corpus.LEARNT, source.name
        assert held_out.sum() >= corpus.HELD_OUT, source.name


def test_every_sixth_series_of_open_data_is_held_out_in_pieces() -> None:
    data = corpus.of_data("walks", [walk(seed, 250) for seed in range(7)], METHOD).sequences
    assert len(data.inputs) == 7 * 2 * corpus.EVENTS
    assert (~np.isnan(data.held_out)).any(1).nonzero()[0].min() == 6 * 2 * corpus.EVENTS + 1  # its first has no scale
    two = corpus.of_data("two", [walk(1, 90), walk(2, 90)], METHOD).sequences
    assert not np.isnan(two.labels[:80]).all()
    assert np.isnan(two.labels[90:]).all()


def history(path: Path) -> Path:
    rows = [f"s{s},{BEGIN_S + 3600 * i},{v}" for s in range(3) for i, v in enumerate(walk(s, 200).value.tolist())]
    path.write_text("\n".join(["stream,time,value", *sorted(rows, key=lambda row: row.split(",")[1])]))
    return path


def test_a_history_of_ones_own_is_added_and_begins_with_a_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out, mine = tmp_path / "base", tmp_path / "out", history(tmp_path / "mine.csv")
    assert main(["pretrain", "--corpus", "--epochs", "3", "--out", str(base)]) == 0
    capsys.readouterr()
    assert main(["pretrain", str(mine), "--corpus", "--epochs", "2", "--from", str(base), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert f"weights to begin with: {base}, learnt from seasons (6 streams" in printed.err
    assert "walks (7 streams, 1,400 events), mine.csv (3 streams, 600 events)" in printed.out
    assert main(["pretrain", str(mine), "--from", str(tmp_path / "none"), "--out", str(tmp_path / "other")]) == 1


def test_data_that_cannot_be_fetched_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def every(say: object) -> Iterator[open_data.Data]:
        raise RuntimeError("pip could not fetch nobody==1")
        yield

    monkeypatch.setattr(open_data, "every", every)
    assert main(["pretrain", "--corpus", "--out", str(tmp_path / "base")]) == 1
    assert "--corpus needs open data that could not be fetched: pip could not" in capsys.readouterr().err


def test_the_corpus_and_the_topic_are_not_learnt_from_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "--corpus", "--from-topic", "--out", str(tmp_path / "base")]) == 2
    assert "give FILE..., --corpus or both, or --from-topic" in capsys.readouterr().err


# ---- what is shipped


def begins_with(capsys: pytest.CaptureFixture[str], file: Path) -> str:
    capsys.readouterr()
    assert main(["backtest", str(file)]) == 0
    return next((line for line in capsys.readouterr().out.splitlines() if line.startswith("weights to")), "")


def test_the_shipped_base_is_begun_with_by_its_name_where_it_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, mine = tmp_path / "shipped.safetensors", history(tmp_path / "mine.csv")
    monkeypatch.setattr(plan, "base_file", lambda cell: shipped if cell != "lstm" else tmp_path / "none")
    assert begins_with(capsys, mine) == "weights to begin with: nothing, as there is no shipped.safetensors"
    monkeypatch.setenv("FOLDCAST_MODEL__CHECKPOINT", "none")
    assert begins_with(capsys, mine) == ""
    assert main(["pretrain", "--corpus", "--epochs", "2", "--out", str(shipped)]) == 0
    monkeypatch.delenv("FOLDCAST_MODEL__CHECKPOINT")
    assert begins_with(capsys, mine) == "weights to begin with: base"
    monkeypatch.setenv("FOLDCAST_MODEL__CELL", "rnn_tanh")
    words = "it was trained with cell = gru, and here it is cell = rnn_tanh"
    assert begins_with(capsys, mine) == f"weights to begin with: nothing, as the base does not fit: {words}"
    assert plan.Plan.of(Settings()).network().updates == 0, "with the high early rate of weights that know nothing"
    assert main(["pretrain", str(mine), "--from", "base", "--out", str(tmp_path / "mine")]) == 1
    assert f"--from base gives nothing, as the base does not fit: {words}: set [model]" in capsys.readouterr().err
    shipped.write_bytes(shipped.read_bytes()[:-1])
    assert main(["backtest", str(mine)]) == 1
    assert "the base is damaged: " in capsys.readouterr().err


def test_a_training_of_the_corpus_that_ended_does_not_go_on_with_more_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "base"
    assert main(["pretrain", "--corpus", "--epochs", "2", "--out", str(out)]) == 0
    ended = out.read_bytes()
    assert not Checkpoint.load(ended).training
    assert main(["pretrain", "--corpus", "--epochs", "3", "--out", str(out)]) == 1, "its rate has fallen"
    assert "is no interrupted training of this history" in capsys.readouterr().err
    assert out.read_bytes() == ended


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_shipped_base_fits_the_defaults_and_any_horizons_up_to_48(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HORIZONS", "HIDDEN_SIZE"):
        monkeypatch.delenv(f"FOLDCAST_MODEL__{name}")
    heads = []
    for model in ({}, {"horizons": (5, 24, 48)}, {"horizons": (48,), "season_slots": 48}, {"profile": "lite"}):
        made = plan.Plan.of(Settings(model={"cell": cell, **model}))
        assert made.base == "base"
        assert made.network().updates > 0
        heads.append(made.network().weights["head.weight"])
    assert np.array_equal(heads[0][-1], heads[1][1])
    assert np.array_equal(heads[1][2], heads[2][0])
    beyond = plan.Plan.of(Settings(model={"cell": cell, "horizons": (24, 49)}))
    assert beyond.base.startswith("nothing, as the base does not fit: it was trained with horizons = 1,2,3,...,48, and")
