"""What the pipeline alone costs per event, no Kafka: one shard, batches that are one wave each; and decoding JSON.

A wave of N is one event of each of N streams, handed to the shard as a batch; so a wave of one is a batch of one. Rows
are warmed up with `--warm` events each, more than the longest horizon, so that every part of the method is at work.
CPU is this process's, over waves that together hold `--events` events. Learning happens elsewhere and is not in it.
"""

import gc
import time

import numpy as np
from report import Report, options
from stand import FIRST_MS, STEP_MS, Sections, add_variants, variants

from pipeline.batch import Batch
from pipeline.events import Decoder, Format
from pipeline.shard import Shard
from tests.rigs.cluster import environment_of
from worker.plan import Plan
from worker.settings.sources import load


class Fed:
    """A shard and the waves it is fed."""

    def __init__(self, tables: Sections, rows: int, warm: int) -> None:
        plan = Plan.of(load(None, environment_of(tables)))
        self._shard = Shard(plan.method, plan.network(), 0, plan.settings)
        self._names = [f"sensor-{row:06}" for row in range(rows)]
        self._level = np.zeros(rows)
        self._random = np.random.default_rng(1)
        self._covariates = np.zeros((rows, len(plan.method.covariates)))
        self._turn = 0
        for wave in self.waves(warm):
            self._shard.advance(wave)

    def waves(self, turns: int) -> list[Batch]:
        """The next ones: random walks, an event a minute."""
        made, rows = [], len(self._names)
        for turn in range(self._turn, self._turn + turns):
            self._level = self._level + self._random.normal(size=rows)
            first, times = turn * rows, np.full(rows, FIRST_MS + turn * STEP_MS)
            offsets = np.arange(first, first + rows)
            drop = np.zeros(rows, np.int64)
            made.append(
                Batch(offsets, self._names, times, times, self._level, self._covariates, rows, first + rows, drop)
            )
        self._turn += turns
        return made

    def cost_us(self, events: int) -> float:
        """CPU per event over so many."""
        waves = self.waves(max(1, events // len(self._names)))
        gc.collect()
        before = time.process_time()
        for wave in waves:
            self._shard.advance(wave)
        return (time.process_time() - before) / (len(waves) * len(self._names)) * 1e6


EVENT = b'"time": %d, "value": %d.25'
SHAPES = {  # a message, and where its fields are
    "flat": (b'{"stream": "sensor-7", %s}' % EVENT, Format()),
    "nested": (
        b'{"device": {"id": "sensor-7"}, "data": {%s}}' % EVENT,
        Format("device.id", "data.time", "data.value"),
    ),
    "in a list": (
        b'{"stream": "sensor-7", "readings": [{"unit": "C", %s}]}' % EVENT,
        Format(time_field="readings.0.time", target_field="readings.0.value"),
    ),
}


def decode_us(shape: str, events: int) -> float:
    """CPU per event of decoding messages of a shape."""
    body, form = SHAPES[shape]
    bodies = [body % (FIRST_MS + n * STEP_MS, n % 50) for n in range(events)]
    decoder, stamps, keys = Decoder(form), [FIRST_MS + events * STEP_MS] * events, [b"sensor-7"] * events
    gc.collect()
    before = time.process_time()
    batch, _ = decoder.decode(range(events), stamps, keys, bodies)
    assert len(batch.name) == events
    return (time.process_time() - before) / events * 1e6


def main() -> None:
    parser = options(__doc__, runs=5)
    add_variants(parser)
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 1], help="of a wave (%(default)s)")
    parser.add_argument("--warm", type=int, default=200, help="events of each stream before it counts (%(default)s)")
    parser.add_argument("--events", type=int, default=20_000, help="of a run, a tenth for a wave of one (%(default)s)")
    given = parser.parse_args()
    report = Report("fold: the pipeline alone")
    fed = {
        (name, rows): Fed(tables, rows, given.warm)
        for name, tables in variants(given.variant).items()
        for rows in given.rows
    }
    for _ in range(given.runs):
        for (name, rows), shard in fed.items():
            events = given.events if rows > 1 else given.events // 10
            report.add(name, {f"wave of {rows:,}, CPU us/event": shard.cost_us(events)})
        report.add("decode", {f"{shape}, CPU us/event": decode_us(shape, given.events) for shape in SHAPES})
    report.show(given.json)


if __name__ == "__main__":
    main()
