"""`foldcast inspect`: what the changelog holds, or the state of one stream, while workers run."""

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.refusal import printable

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast inspect JFK.temp --config configs/local.toml"
QUIET_S = 2.0  # before a bar is drawn
COLUMNS = (
    "partition", "committed", "input_end", "image", "records", "bytes", "newest_s", "model", "streams", "state_bytes"
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("stream", nargs="?", metavar="STREAM", help="show the state of this one")
    parser.add_argument("--json", action="store_true", help="print one object, for programs")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Print what is there. Returns the exit code: 1 where a problem is found. Raises Refusal, BrokerError."""
    from tqdm import tqdm

    from worker import inspection  # it loads the Kafka client

    topic = settings.kafka.changelog_topic
    reading = tqdm(inspection.contents(settings), desc=topic, unit=" partitions", delay=QUIET_S, disable=None)
    if given.stream is not None:
        facts = inspection.stream(settings, given.stream, reading)
        print(json.dumps({"stream": given.stream} | facts, indent=2) if given.json else _of_stream(given.stream, facts))
        return 0
    partitions = [one.facts() for one in reading]
    problems = [problem for one in partitions for problem in one["problems"]]
    if given.json:
        print(json.dumps({"changelog": topic, "group": settings.kafka.group_id, "partitions": partitions}, indent=2))
    else:
        print(f"{topic}, group {settings.kafka.group_id}")
        print("\n".join([*_table(partitions), *(f"NO  {printable(problem)}" for problem in problems)]))
    return 1 if problems else 0


def _table(partitions: list[dict[str, Any]]) -> list[str]:
    rows = [list(COLUMNS), *([_cell(one[name]) for name in COLUMNS] for one in partitions)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _cell(fact: object) -> str:
    return "-" if fact is None else f"{fact:,}" if isinstance(fact, (int, float)) else str(fact)


def _of_stream(name: str, facts: dict[str, Any]) -> str:
    """The state in words, numbers to six digits."""
    at = datetime.fromtimestamp(facts["time_ms"] / 1000, UTC).isoformat()
    step = "none yet" if facts["step_ms"] is None else f"{facts['step_ms'] / 1000:g} s"
    since = "" if facts["records_since"] is None else f", {facts['records_since']:,} records before C"
    lines = [
        f"{printable(name)}: partition {facts['partition']}, as of offset {facts['image']}{since}; {facts['model']}",
        f"  {facts['events']:,} events, the last {facts['value']:g} at {at}; step {step}",
        f"  season {facts['season']}, {facts['slots_seen']} slots seen; mean {facts['mean']:.6g}, "
        f"deviation {facts['spread']:.6g}, step scale {facts['step_scale']:.6g}",
    ]
    for horizon, parts in facts["horizons"].items():
        weights = ", ".join(f"{expert} {weight:.3f}" for expert, weight in parts["weights"].items())
        bands = ", ".join(f"{level} [{low:.6g}, {high:.6g}]" for level, (low, high) in parts["bands"].items())
        quantiles = ", ".join(f"{level} {width:+.3f}" for level, width in parts["quantiles_in_widths"].items())
        lines += [
            f"  horizon {horizon}: forecast {parts['mean']:.6g}, {bands}",
            f"    weights {weights}; guard {parts['guard']:.3f}",
            f"    scale {parts['scale']:.6g}, error scale {parts['error_scale']:.6g}, width {parts['width']:.6g}, "
            f"quantiles in widths {quantiles}",
        ]
    return "\n".join(lines)
