"""Draws the dashboard: `python deploy/grafana/dashboard.py` writes dashboards/foldcast.json.

Four questions, a row of panels each: is it well, is it fast, is it any good, what is it learning.
"""

from dataclasses import dataclass, field
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

STEP = "[$__rate_interval]"  # Grafana's, at least four scrapes
GREEN, YELLOW, RED = "green", "yellow", "red"
OUT = Path(__file__).parent / "dashboards" / "foldcast.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
SERVICE = 'namespace="$namespace", job="$job"'  # no namespace, as in Compose, is an empty one
OURS = f'{{{SERVICE}, instance=~"$instance"}}'  # of one worker
GROUP = f"{{{SERVICE}}}"  # of all


@dataclass(frozen=True)
class Panel:
    """One panel: queries by their legend."""

    title: str
    queries: dict[str, str]
    unit: str
    text: str
    colours: tuple[tuple[float | None, str], ...] = ((None, GREEN),)  # each from its value on
    number: bool = False  # one number now, else lines over time
    stacked: bool = False
    minimum: float | None = None


@dataclass(frozen=True)
class Row:
    """A question and the panels that answer it."""

    title: str
    panels: list[Panel] = field(default_factory=list)


WELL = Row(
    "Is it well?",
    [
        Panel(
            "Workers",
            {"up": f"sum(up{GROUP})"},
            "short",
            "Workers that Prometheus reaches",
            ((None, RED), (1, GREEN)),
            number=True,
        ),
        Panel(
            "Partitions held",
            {"held": f"sum(foldcast_shards{GROUP})", "of": f"max(foldcast_input_partitions{GROUP})"},
            "short",
            "Loaded by some worker, of the input's",
            number=True,
        ),
        Panel(
            "Alerts",
            {"firing": f'count(ALERTS{{alertname=~"Foldcast.*", alertstate="firing", {SERVICE}}}) or vector(0)'},
            "short",
            "Firing now; docs/runbook.md says what to do",
            ((None, GREEN), (1, RED)),
            number=True,
        ),
        Panel(
            "Behind",
            {"behind": "job:foldcast_lag_seconds:max" + GROUP},
            "s",
            "Age of the last record read, of the partition that is furthest behind",
            ((None, GREEN), (10, YELLOW), (60, RED)),
            number=True,
        ),
        Panel(
            "Records behind",
            {"partition {{partition}}": f"sum by (partition) (foldcast_consumer_lag_records{OURS})"},
            "short",
            "Records in the input that were not read yet; a partition without a line is restoring or has no worker",
            minimum=0,
        ),
        Panel(
            "Transactions",
            {"{{outcome}}": f"sum by (outcome) (rate(foldcast_commits_total{OURS}{STEP}))"},
            "ops",
            "One per cycle. Refused or unknown ones are done again after a restore",
            minimum=0,
        ),
        Panel(
            "Not forecast",
            {
                "dropped: {{reason}}": f"sum by (reason) (rate(foldcast_events_dropped_total{OURS}{STEP}))",
                "dead letter: {{reason}}": f"sum by (reason) (rate(foldcast_dead_letters_total{OURS}{STEP}))",
            },
            "ops",
            "Late, doubled and missing values are dropped; what is no event goes to the dead letters",
            minimum=0,
        ),
        Panel(
            "What a crash would cost",
            {"{{instance}}": f"foldcast_replay_tail_records{OURS}"},
            "short",
            "Records that the worst shard would fold again",
            ((None, GREEN), (50_000, YELLOW), (200_000, RED)),
            minimum=0,
        ),
        Panel(
            "Age of the oldest image",
            {"{{instance}}": f"foldcast_snapshot_age_seconds{OURS}"},
            "s",
            "Renewed while events arrive, every worker.snapshot_interval_s or sooner",
            ((None, GREEN), (600, YELLOW), (1800, RED)),
            minimum=0,
        ),
        Panel(
            "Restoring",
            {
                "{{instance}}: to go": f"foldcast_restore_pending_records{OURS}",
            },
            "short",
            "Records still to fold silently; their partitions publish nothing meanwhile",
            ((None, GREEN), (1, YELLOW)),
            minimum=0,
        ),
    ],
)

FAST = Row(
    "Is it fast?",
    [
        Panel(
            "Throughput",
            {
                "events": "job:foldcast_events:rate1m" + GROUP,
                "forecasts": "job:foldcast_forecasts:rate1m" + GROUP,
            },
            "ops",
            "Per second, all workers",
            minimum=0,
        ),
        Panel(
            "Latency",
            {
                "half of them": "job:foldcast_event_latency_seconds:p50_5m" + GROUP,
                "99 of 100": "job:foldcast_event_latency_seconds:p99_5m" + GROUP,
            },
            "s",
            "From the record's timestamp to its forecast committed",
            ((None, GREEN), (0.25, YELLOW), (1, RED)),
            minimum=0,
        ),
        Panel(
            "Where the loop's time goes",
            {"{{phase}}": f"avg by (phase) (rate(foldcast_loop_seconds_total{OURS}{STEP}))"},
            "percentunit",
            "Sums to 1: a loop that hangs leaves a gap. poll and idle are waiting",
            stacked=True,
            minimum=0,
        ),
        Panel(
            "Busy",
            {"{{instance}}": "instance:foldcast_loop_busy:ratio_rate1m" + OURS},
            "percentunit",
            "Share of its time in which the loop does not wait; at 1 it cannot keep up with more",
            ((None, GREEN), (0.7, YELLOW), (0.9, RED)),
            minimum=0,
        ),
        Panel(
            "CPU per thousand events",
            {
                "cores, per thousand/s": f"1000 * sum(rate(process_cpu_seconds_total{GROUP}{STEP}))"
                f" / sum(rate(foldcast_events_total{GROUP}{STEP}))"
            },
            "s",
            "Seconds of CPU; a worker costs some even without events",
            minimum=0,
        ),
        Panel(
            "Memory",
            {
                "{{instance}}: process": f"process_resident_memory_bytes{OURS}",
                "{{instance}}: rows": f"foldcast_state_bytes{OURS}",
            },
            "bytes",
            "The rows are what grows with the streams",
            minimum=0,
        ),
        Panel(
            "Streams",
            {"{{instance}}": f"foldcast_streams{OURS}"},
            "short",
            "Each is a row of its shard's table",
            minimum=0,
        ),
        Panel(
            "Written for durability",
            {"{{instance}}": f"rate(foldcast_snapshot_bytes_total{OURS}[5m])"},
            "Bps",
            "Pages and markers, in the transactions of the forecasts",
            minimum=0,
        ),
    ],
)

GOOD = Row(
    "Is it any good?",
    [
        Panel(
            "Skill against the last value",
            {"{{horizon}} ahead": "job_horizon:foldcast_forecast_skill:avg" + GROUP},
            "percentunit",
            "1 - squared error / squared error of the last value, recent: 0 is no better than doing nothing",
            ((None, YELLOW), (0, GREEN)),
        ),
        Panel(
            "Coverage",
            {
                "{{level}}, {{horizon}} ahead": "avg by (level, horizon) "
                f"(foldcast_interval_coverage_ratio{GROUP} >= 0)",
            },
            "percentunit",
            "Share of values inside their interval, recent; each level should be what it says",
            minimum=0,
        ),
        Panel(
            "Off nominal",
            {
                "{{level}}, {{horizon}} ahead": "job_level_horizon:foldcast_interval_miscoverage:avg" + GROUP,
            },
            "short",
            "0 is right; 1 is twice as many values outside as there should be, -1 none at all",
            ((None, GREEN), (0.25, YELLOW), (0.5, RED)),
        ),
        Panel(
            "Error",
            {"{{horizon}} ahead": f"avg by (horizon) (foldcast_forecast_error{GROUP} >= 0)"},
            "short",
            "Mean absolute error in the stream's own scale for that horizon",
            minimum=0,
        ),
        Panel(
            "Values outside",
            {"{{level}}": f"sum by (level) (rate(foldcast_values_outside_total{OURS}{STEP}))"},
            "ops",
            "All horizons; a burst is an event in the data",
            minimum=0,
        ),
    ],
)

LEARNING = Row(
    "What is it learning?",
    [
        Panel(
            "Fine-tunes",
            {"{{outcome}}": f"sum by (outcome) (increase(foldcast_fine_tunes_total{OURS}[5m]))"},
            "short",
            "Within 5 minutes. Rolled back: the network did worse with it, so older weights are back in service",
            minimum=0,
        ),
        Panel(
            "Updates",
            {
                "made": f"sum(rate(foldcast_fine_tune_updates_total{GROUP}{STEP}))",
                "left out": f"sum(rate(foldcast_fine_tune_skipped_total{GROUP}{STEP}))",
            },
            "ops",
            "Steps of the optimiser; left out are those that were due while it had no time",
            minimum=0,
        ),
        Panel(
            "Time of an update",
            {
                "half of them": "histogram_quantile(0.5, sum by (le) "
                f"(rate(foldcast_fine_tune_seconds_bucket{GROUP}[5m])))",
                "99 of 100": "histogram_quantile(0.99, sum by (le) "
                f"(rate(foldcast_fine_tune_seconds_bucket{GROUP}[5m])))",
            },
            "s",
            "From the offer to the answer, in a process of lower priority",
            minimum=0,
        ),
        Panel(
            "Age of the weights",
            {"{{instance}}": f"foldcast_weights_age_events{OURS}"},
            "short",
            "Records since the oldest weights in service came into it",
            minimum=0,
        ),
        Panel(
            "Gradient",
            {"{{instance}}": f"foldcast_gradient_norm{OURS}"},
            "short",
            "Norm before clipping, recent mean",
            minimum=0,
        ),
        Panel(
            "Clipped",
            {"{{instance}}": f"foldcast_gradient_clipped_ratio{OURS}"},
            "percentunit",
            "Share of recent updates whose gradient was cut",
            ((None, GREEN), (0.5, YELLOW)),
            minimum=0,
        ),
        Panel(
            "CPU of learning",
            {"cores": f"sum(rate(foldcast_fine_tune_cpu_seconds_total{GROUP}{STEP}))"},
            "short",
            "All workers; each takes fine_tune.max_cpu_share at most",
            minimum=0,
        ),
        Panel(
            "Trainers replaced",
            {"{{reason}}": f"sum by (reason) (increase(foldcast_trainer_restarts_total{OURS}[1h]))"},
            "short",
            "Within an hour; forecasts go on without one",
            ((None, GREEN), (1, YELLOW), (4, RED)),
            minimum=0,
        ),
    ],
)

ROWS = [WELL, FAST, GOOD, LEARNING]


def drawn() -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard("foldcast")
        .uid("foldcast")
        .tags(["foldcast"])
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_labels("namespace", "label_values(foldcast_build_info, namespace)"))
        .with_variable(_labels("job", 'label_values(foldcast_build_info{namespace="$namespace"}, job)'))
        .with_variable(
            _labels("instance", f"label_values(foldcast_build_info{GROUP}, instance)").include_all(True).multi(True)
        )
    )
    for row in ROWS:
        board = board.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            board = board.with_panel(_number(panel) if panel.number else _lines(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _labels(name: str, query: str) -> dashboard.QueryVariable:
    return dashboard.QueryVariable(name).datasource(SOURCE).query(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _number(panel: Panel) -> stat.Panel:
    drawn = stat.Panel().title(panel.title).description(panel.text).unit(panel.unit).datasource(SOURCE)
    drawn = drawn.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    drawn = drawn.thresholds(_thresholds(panel)).height(4).span(6)
    return _asked(drawn, panel)


def _lines(panel: Panel) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
    drawn = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.text)
        .unit(panel.unit)
        .datasource(SOURCE)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .thresholds(_thresholds(panel))
        .height(8)
        .span(8)
    )
    if panel.minimum is not None:
        drawn = drawn.min(panel.minimum)
    if panel.stacked:
        drawn = drawn.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(60)
    if len(panel.colours) > 1:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        drawn = drawn.thresholds_style(style)
    return _asked(drawn, panel)


def _asked(drawn, panel: Panel):  # type: ignore[no-untyped-def]  # either kind of panel
    for number, (legend, query) in enumerate(panel.queries.items()):
        drawn = drawn.with_target(prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(65 + number)))
    return drawn


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=value, color=colour) for value, colour in panel.colours]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


if __name__ == "__main__":
    OUT.write_text(drawn())
