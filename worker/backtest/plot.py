"""A picture of a back-test: error and coverage by horizon, and the worst streams' last forecasts."""

import warnings
from collections.abc import Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.arrays import Floats
from pipeline.backtest.scores import WHOLE, coverage, mean_skills, worst_first
from pipeline.backtest.scoring import ENDS, Trace
from pipeline.backtest.tally import Tallies
from pipeline.method import Method
from worker.refusal import Refusal, WrongUsage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STREAMS = 6  # drawn, the worst first
EVENTS = 120  # of each; until the end they are kept of every stream
NAME = 40  # characters of a stream's name
CUT = 0.02  # of what is drawn of a stream, at either end, may be so far out that it leaves the picture
MOST = 2.0  # times the last value's error; what is worse leaves the picture
DATES = np.array(["0100", "9000"], "datetime64[ms]").astype(np.int64)  # what matplotlib can draw with room at both ends
UNDATED = {"Date": None}  # so that one history gives one picture
SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "foldcast", "font.sans-serif": ["DejaVu Sans"]}
PARTS = {  # of the method, as people call them
    "seasonal": "seasonal naive",
    "season_slots": "season slots",
    "linear": "linear expert",
    "network": "network",
    "stack": "stacking",
    "without_network": "without network",
}

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>body {{ font-family: sans-serif; margin: 2em }} svg {{ max-width: 100%; height: auto }}</style>
<h1>{title}</h1>
{svg}
<pre>
{text}
</pre>
</html>
"""


class PlotError(Refusal):
    """The plot cannot be made; the message is one sentence."""


def check(path: Path) -> None:
    """Check before hours of work that a plot can be drawn. Raises WrongUsage or PlotError where it cannot."""
    if path.suffix not in (".html", ".png", ".svg"):
        raise WrongUsage(f"--plot is {path}; it must end in .html, .png or .svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PlotError("--plot needs matplotlib, which is not installed: pip install 'foldcast[plot]'") from error


def shown(name: str, width: int) -> str:
    """Return a stream's name on one line, at most `width` characters of it."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:width])


def write(path: Path, drawn: "Figure", title: str, lines: Sequence[str]) -> None:
    """Write the figure as PNG, as SVG, or as a page of its own with these lines below. Raises PlotError."""
    from matplotlib import rc_context

    try:
        with rc_context({} if path.suffix == ".png" else SVG), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")
            if path.suffix == ".png":
                drawn.savefig(path, dpi=120)
                return
            svg = StringIO()
            drawn.savefig(svg, format="svg", metadata=UNDATED)
        text = svg.getvalue()
        if path.suffix == ".html":
            picture = text[text.index("<svg") :]
            text = PAGE.format(title=escape(title), svg=picture, text=escape("\n".join(lines)))
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError, OverflowError) as error:  # of numbers too large for a picture, the last two
        raise PlotError(f"the plot cannot be written: {error}") from error


def figure(
    tallies: Tallies,
    traces: dict[str, Trace],
    method: Method,
    without: Tallies | None = None,
    streams: Sequence[str] = (),
    caption: str = "",
) -> "Figure":
    """Draw means over all streams above; below, a row per stream, its shortest and its longest horizon.

    The streams are those named, else the worst. Raises PlotError where there is none of that name.
    """
    from matplotlib.figure import Figure

    for name in streams:
        if name not in tallies:
            some = ", ".join(map(repr, sorted(tallies)[:STREAMS]))
            raise PlotError(f"--plot-stream is {name!r}, which is no stream of the file: there is {some}")
    names = streams or worst_first(tallies)[:STREAMS]
    drawn = Figure(figsize=(12, 4.2 + 2.4 * len(names)), layout="constrained")
    drawn.suptitle(caption, fontsize=9, parse_math=False)
    grid = drawn.add_gridspec(1 + len(names), 2)
    _errors(drawn.add_subplot(grid[0, 0]), tallies, method, without)
    _coverage(drawn.add_subplot(grid[0, 1]), tallies, method)
    for row, name in enumerate(names, 1):
        for column, j in enumerate(ENDS[: len(method.horizons)]):
            axes = drawn.add_subplot(grid[row, column])
            h, skill = method.horizons[j], tallies[name].skill[j]
            worth = "" if np.isnan(skill) else f", skill {skill:.3f}"
            axes.set_title(f"{shown(name, NAME)}, {h} ahead{worth}", fontsize=10, parse_math=False)
            _stream(axes, traces[name], column, h, method)
    drawn.legend(*drawn.axes[2].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    return drawn


def _errors(axes: "Axes", tallies: Tallies, method: Method, without: Tallies | None) -> None:
    for name, skill in mean_skills(tallies, method, without).items():
        style: dict[str, Any] = {"linewidth": 2.5, "zorder": 3} if name == WHOLE else {"linewidth": 1}
        axes.plot(method.horizons, 1 - skill, marker=".", label=PARTS.get(name, name), **style)
    axes.axhline(1, color="black", linestyle="dotted", label="last value")
    axes.set_ylim(0, min(MOST, max(1.1, axes.get_ylim()[1])))
    axes.set_title("squared error as a multiple of the last value's, mean over streams", fontsize=10)
    axes.set_xlabel("horizon, in events")
    _legend_below(axes)


def _coverage(axes: "Axes", tallies: Tallies, method: Method) -> None:
    inside = coverage(tallies)
    for k, level in enumerate(method.band_levels):
        axes.plot(method.horizons, inside[:, k], marker=".", color=f"C{k}", label=f"inside {level:.0%}")
        axes.axhline(level, color=f"C{k}", linestyle="dotted")
    axes.set_title("share of values inside the intervals", fontsize=10)
    axes.set_xlabel("horizon, in events")
    _legend_below(axes)


def _legend_below(axes: "Axes") -> None:
    """Put the legend where no curve is."""
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=4, frameon=False)


def _stream(axes: "Axes", trace: Trace, column: int, h: int, method: Method) -> None:
    """Draw the values, and over them, at the same times, the forecasts made h events before."""
    from matplotlib.dates import ConciseDateFormatter

    time = trace.time_ms
    dated = bool(np.all((DATES[0] < time) & (time < DATES[1])))
    when: Any = time.astype("datetime64[ms]") if dated else time / 1000
    labelled = max(len(time) - h, 0)  # forecasts whose label came
    came = when[h : h + labelled]
    for k in range(method.bands):
        low, high = trace.quantiles[:labelled, column, k], trace.quantiles[:labelled, column, -1 - k]
        inside = f"inside {method.band_levels[k]:.0%}"
        axes.fill_between(came, low, high, color="C0", alpha=0.2 * (k + 1), linewidth=0, label=inside)
    axes.plot(when, trace.value, label="value", color="black", linewidth=0.8)
    axes.plot(came, trace.mean[:labelled, column], color="C0", label="forecast so many before")
    _limit(axes, np.concatenate([trace.value, trace.mean[:labelled, column], *trace.quantiles[:labelled, column].T]))
    axes.tick_params(labelsize=8)
    if dated:
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]


def _limit(axes: "Axes", drawn: Floats) -> None:
    """End the axis where nearly all that is drawn has its place: one spike must not flatten the rest."""
    if not len(drawn):
        return
    low, high = np.quantile(drawn, [CUT, 1 - CUT])
    low, high = max(drawn.min(), 2 * low - high), min(drawn.max(), 2 * high - low)
    room = 0.05 * (high - low)
    if room > 0 and np.isfinite(room):
        axes.set_ylim(low - room, high + room)
