"""The plot of a back-test shows what was said, at the time it was said of, in the rows that are scored."""

import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.backtest.backtest import backtest
from pipeline.backtest.scores import worst_first
from pipeline.backtest.scoring import Scoring
from pipeline.events import Decoder, Format
from pipeline.forecasts import Forecasts, joined
from pipeline.network.model import Network, Shape
from pipeline.shard import Shard
from tests.rigs.methods import ONE, SMALL
from worker import __version__
from worker.__main__ import main
from worker.backtest import plot
from worker.backtest.files import records

METHOD = SMALL
LONGEST = METHOD.longest
BEGIN_S = 1_600_300_800  # whole weeks since 1970
N = 300


def walks_csv(
    folder: Path, names: tuple[str, ...] = ("a", "b"), times: range = range(BEGIN_S, BEGIN_S + N * 60, 60)
) -> Path:
    """One walk per stream, in times of epoch seconds."""
    path, steps = folder / "walks.csv", np.random.default_rng(5).normal(size=(N, len(names)))
    rows = [
        f'"{name}",{time},{value!r}'
        for time, row in zip(times, np.cumsum(steps, 0).tolist(), strict=True)
        for name, value in zip(names, row, strict=True)
    ]
    path.write_text("\n".join(["stream,time,value", *rows]))
    return path


def said_of(path: Path, scoring: Scoring) -> dict[str, Forecasts]:
    """All forecasts by stream, scored on the way."""
    method, parts = scoring.method, []
    with path.open("rb") as file:
        for part in backtest(
            records(file, Format()), [Shard(method, Network(Shape.of(method)), 0, {})], Decoder(Format()), batch=97
        ):
            scoring.take(part.forecasts)
            parts.append(part.forecasts)
    assert scoring.tallies
    said = joined(parts)
    place = {name: [i for i, other in enumerate(said.name) if other == name] for name in set(said.name)}
    return {name: said._replace(events=said.events[mine]) for name, mine in place.items()}


def titles(axes: list[Axes]) -> list[str]:
    return [each.get_title() for each in axes]


@pytest.mark.parametrize(
    ("first", "last", "keep"), [(0, None, 50 + LONGEST), (40, None, 10**6), (40, 100, 30 + LONGEST)]
)
def test_forecasts_are_drawn_at_the_time_of_their_labels(
    first: int, last: int | None, keep: int, tmp_path: Path
) -> None:
    scoring = Scoring(METHOD, first, last, keep)
    said = said_of(walks_csv(tmp_path), scoring)
    end = N if last is None else last + LONGEST
    begin = max(first, end - keep)
    axes = plot.figure(scoring.tallies, scoring.traces, METHOD).axes
    for row, name in enumerate(worst_first(scoring.tallies)):
        for column, (j, h) in enumerate(enumerate(METHOD.horizons)):
            panel, mine = axes[2 + 2 * row + column], said[name]
            skill = scoring.tallies[name].skill[j]
            assert panel.get_title() == f"{name}, {h} ahead, skill {skill:.3f}"
            origins = np.arange(begin, end - h)
            assert len(origins) == min(keep, end - first) - h
            value, mean = panel.get_lines()
            minutes = np.asarray(value.get_xdata()).astype("datetime64[m]").astype(int) - BEGIN_S // 60
            assert minutes.tolist() == list(range(begin, end))
            np.testing.assert_array_equal(value.get_ydata(), mine.value[begin:end])
            minutes = np.asarray(mean.get_xdata()).astype("datetime64[m]").astype(int) - BEGIN_S // 60
            assert minutes.tolist() == (origins + h).tolist()
            np.testing.assert_array_equal(mean.get_ydata(), mine.mean[origins, j])
            assert len(panel.collections) == METHOD.bands
            for k, band in enumerate(panel.collections):
                drawn = band.get_paths()[0].vertices[:, 1]
                edges = mine.quantiles[origins, j][:, [k, -1 - k]]
                assert set(drawn.tolist()) == set(edges.ravel().tolist())


def test_means_are_those_of_the_table(tmp_path: Path) -> None:
    scoring = Scoring(METHOD, 100, None, 10)
    said_of(walks_csv(tmp_path), scoring)
    errors, coverage = plot.figure(scoring.tallies, scoring.traces, METHOD).axes[:2]
    forecast = next(line for line in errors.get_lines() if line.get_label() == "forecast")
    skill = np.mean([tally.skill for tally in scoring.tallies.values()], axis=0)
    np.testing.assert_allclose(forecast.get_ydata(), 1 - skill)
    low, high = errors.get_ylim()
    assert low == 0 < 1 < high <= plot.MOST, "the last value's line is seen"
    for k, level in enumerate(METHOD.band_levels):
        line = next(line for line in coverage.get_lines() if line.get_label() == f"inside {level:.0%}")
        n = sum(tally.n for tally in scoring.tallies.values())
        np.testing.assert_allclose(line.get_ydata(), sum(t.inside[:, k] for t in scoring.tallies.values()) / n)


def test_only_the_worst_are_drawn(tmp_path: Path) -> None:
    scoring = Scoring(METHOD, 0, None, 20)
    said_of(walks_csv(tmp_path, tuple("abcdefgh")), scoring)
    skills = {name: tally.skill.mean() for name, tally in scoring.tallies.items()}
    worst = sorted(skills, key=skills.__getitem__)[: plot.STREAMS]
    drawn = titles(plot.figure(scoring.tallies, scoring.traces, METHOD).axes)[2:]
    assert [title.partition(",")[0] for title in drawn[::2]] == worst


def test_one_spike_does_not_flatten_the_rest(tmp_path: Path) -> None:
    scoring, path = Scoring(METHOD, keep=plot.EVENTS), tmp_path / "spike.csv"
    value = 20 + np.random.default_rng(3).normal(size=N)
    value[-60] = -9999
    path.write_text("time,a\n" + "".join(f"{BEGIN_S + 60 * i},{v}\n" for i, v in enumerate(value.tolist())))
    said_of(path, scoring)
    drawn = plot.figure(scoring.tallies, scoring.traces, METHOD)
    for panel in drawn.axes[2:]:
        low, high = panel.get_ylim()
        rest = np.delete(np.asarray(panel.get_lines()[0].get_ydata()), -60)
        assert -50 < low < rest.min() < rest.max() < high < 100


def test_without_spikes_all_of_it_is_seen(tmp_path: Path) -> None:
    scoring = Scoring(METHOD, keep=plot.EVENTS)
    said_of(walks_csv(tmp_path), scoring)
    for panel in plot.figure(scoring.tallies, scoring.traces, METHOD).axes[2:]:
        low, high = panel.get_ylim()
        for line in panel.get_lines():
            assert low < np.min(line.get_ydata()) < np.max(line.get_ydata()) < high


def test_no_legend_lies_on_a_curve(tmp_path: Path) -> None:
    scoring = Scoring(METHOD, keep=plot.EVENTS)
    said_of(walks_csv(tmp_path), scoring)
    drawn = plot.figure(scoring.tallies, scoring.traces, METHOD)
    drawn.draw_without_rendering()
    legends = [*drawn.legends, *(axes.get_legend() for axes in drawn.axes[:2])]
    assert len(legends) == 3
    assert all(axes.get_legend() is None for axes in drawn.axes[2:])
    for legend in legends:
        for axes in drawn.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    words = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert words == ["inside 95%", "inside 80%", "value", "forecast so many before"]


def test_streams_that_are_named_are_drawn_and_unknown_ones_refused(tmp_path: Path) -> None:
    scoring = Scoring(METHOD, 0, None, 20)
    said_of(walks_csv(tmp_path, tuple("abcdefgh")), scoring)
    drawn = plot.figure(scoring.tallies, scoring.traces, METHOD, streams=("g", "b"))
    assert [title.partition(",")[0] for title in titles(drawn.axes)[2::2]] == ["g", "b"]
    with pytest.raises(plot.PlotError, match="--plot-stream is 'x', which is no stream of the file: there is 'a', 'b'"):
        plot.figure(scoring.tallies, scoring.traces, METHOD, streams=("x",))


# ---- the command


def test_version_date_and_settings_are_in_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, day = walks_csv(tmp_path), f"{datetime.now(UTC):%Y-%m-%d}"
    usual = plotted(tmp_path, history, "a.svg").read_text()
    assert f"walks.csv: foldcast {__version__}, {day}, default settings" in usual
    monkeypatch.setenv("FOLDCAST_MODEL__CELL", "rnn_tanh")
    other = plotted(tmp_path, history, "a.svg", "--plot-stream", "b").read_text()
    assert "model.cell = rnn_tanh" in other
    assert "b, 1 ahead" in other
    assert "a, 1 ahead" not in other


def plotted(folder: Path, history: Path, name: str = "out.html", *arguments: str) -> Path:
    out = folder / name
    assert main(["backtest", str(history), "--plot", str(out), *arguments]) == 0
    return out


NAMES = ("<b>&amp;", "$x_{$", "日本", "w" * 100, "a\x1b\nb")


def test_a_page_has_picture_and_table_whatever_the_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = walks_csv(tmp_path, NAMES)
    page = plotted(tmp_path, history, "out.html", "--ablate").read_text()
    said = capsys.readouterr()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == page.count("</svg>") == page.count("<h1>walks.csv</h1>") == 1
    assert "<b>" not in page
    assert f"<pre>\n{said.out.splitlines()[0]}\n" in page
    for shown in (
        "&lt;b&gt;&amp;amp;, 1 ahead",
        "$x_{$, 1 ahead",
        "日本, 1 ahead",
        "w" * 40 + ", 1 ahead",
        "a??b, 1 ahead",
    ):
        assert shown in page
    assert "without network" in page
    assert plotted(tmp_path, history, "again.html", "--ablate").read_text() == page


def test_png(tmp_path: Path) -> None:
    assert plotted(tmp_path, walks_csv(tmp_path, NAMES), "out.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_svg(tmp_path: Path) -> None:
    history = walks_csv(tmp_path, NAMES)
    picture = plotted(tmp_path, history, "out.svg").read_text()
    assert picture.count("<svg") == picture.count("</svg>") == 1
    assert "<h1>" not in picture
    assert "日本, 1 ahead" in picture, "text stays text"
    assert plotted(tmp_path, history, "again.svg").read_text() == picture


def test_the_scores_are_the_same_with_and_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = walks_csv(tmp_path)
    plotted(tmp_path, history)
    told = capsys.readouterr().out
    assert main(["backtest", str(history)]) == 0
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("year", ["0001", "9900"])
def test_times_that_no_calendar_has_room_for_are_seconds(year: str, tmp_path: Path) -> None:
    scoring, path = Scoring(METHOD, keep=20), tmp_path / "far.csv"
    path.write_text("time,a\n" + "".join(f"{year}-01-{day:02d},{day * day}\n" for day in range(1, 29)))
    [said] = said_of(path, scoring).values()
    drawn = plot.figure(scoring.tallies, scoring.traces, METHOD)
    assert np.asarray(drawn.axes[2].get_lines()[0].get_xdata()).tolist() == (said.time_ms[-20:] / 1000).tolist()
    plot.write(tmp_path / "far.png", drawn, "far", [])


def test_one_horizon_is_drawn_once(tmp_path: Path) -> None:
    scoring = Scoring(ONE, keep=20)
    said_of(walks_csv(tmp_path, ("a",)), scoring)
    assert len(plot.figure(scoring.tallies, scoring.traces, scoring.method).axes) == 3


@pytest.mark.parametrize("rows", ["299:", "900:"])
def test_where_nothing_is_scored_the_plot_is_empty_and_it_is_said(
    rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    assert main(["backtest", str(walks_csv(tmp_path)), "--plot", str(out), "--score-rows", rows]) == 1
    assert out.exists()
    assert "nothing is scored: " in capsys.readouterr().err


def test_without_matplotlib_it_says_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["backtest", "no such file", "--plot", str(tmp_path / "x.png")]) == 1
    assert capsys.readouterr().err.endswith("is not installed: pip install 'foldcast[plot]'\n")


def test_where_it_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    for name in ("x.png", "x.html", "x.svg"):
        (tmp_path / name).mkdir()
        with pytest.raises(plot.PlotError, match=r"^the plot cannot be written: .*x\."):
            plot.write(tmp_path / name, Figure(), "x", [])


def test_a_worker_does_without_matplotlib() -> None:
    command = "import sys, worker.run, worker.loop; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_a_stream_that_was_never_wrong_has_no_skill_in_its_title(tmp_path: Path) -> None:
    scoring = Scoring(METHOD, 0, None, 20)
    path = tmp_path / "flat.csv"
    path.write_text("\n".join(["stream,time,value", *(f"flat,{BEGIN_S + 60 * i},7" for i in range(30))]))
    said_of(path, scoring)
    assert math.isnan(scoring.tallies["flat"].skill[0])
    assert titles(plot.figure(scoring.tallies, scoring.traces, METHOD).axes)[2:] == ["flat, 1 ahead", "flat, 3 ahead"]
