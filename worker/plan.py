"""What all shards of a worker share, from its settings. Knows no Kafka."""

from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.decoding.numbers import Numbers
from pipeline.decoding.times import Times
from pipeline.events import Decoder, Format
from pipeline.learning.fine_tune import Schedule
from pipeline.method import Cell, Method
from pipeline.network.checkpoint import Checkpoint, Misfit
from pipeline.network.model import Network, Shape
from pipeline.parts import features
from pipeline.shard import Shard
from pipeline.table import PAGE_BYTES, Table
from worker.refusal import Refusal, printable
from worker.settings.method import method_of
from worker.settings.settings import Settings

BASE, NO_BASE = "base", "none"  # in place of a checkpoint's file


@dataclass(frozen=True)
class Plan:
    """What every shard of a worker has in common."""

    method: Method
    settings: dict[str, object]  # what gives the state its meaning, in words
    decoder: Decoder
    seed: int
    checkpoint: bytes | None
    start: str  # "earliest" | "latest": where a new group begins
    skip_gaps: bool  # go on where the input has lost records that the fold needs
    base: str = ""  # the checkpoint in words, or why it is not begun with; empty: none is asked for

    @classmethod
    def of(cls, settings: Settings) -> "Plan":
        """From settings. Raises Refusal where the checkpoint does not fit, or a stream's state gets too large."""
        made = cls(
            method=method_of(settings),
            settings=settings.meaning(),
            decoder=Decoder(format_of(settings)),
            seed=settings.model.seed,
            checkpoint=_checkpoint(settings),
            start=settings.kafka.start,
            skip_gaps=settings.worker.on_gap == "skip",
        )
        row_bytes = Table(made.method).row_bytes
        if row_bytes > PAGE_BYTES:
            raise Refusal(
                f"model and fine_tune make a stream's state {row_bytes:,} bytes, at most {PAGE_BYTES:,} are possible: "
                "ask for shorter horizons, a smaller hidden_size, fewer layers, season_slots or covariates, or a "
                "shorter window"
            )
        return made._with_base(settings.model.checkpoint)

    def _with_base(self, path: str) -> "Plan":
        """As it is, and with the checkpoint in words. Raises Refusal where the checkpoint does not fit."""
        if self.checkpoint is None:
            missing = base_file(self.method.cell).name
            return self if path == NO_BASE else replace(self, base=f"nothing, as there is no {missing}")
        try:
            found = Checkpoint.load(self.checkpoint)
            found.check({"features": ",".join(features.NAMES)})
            self.network()
        except Misfit as misfit:
            if path == BASE:  # it is for the defaults, and whoever changes them has not asked for it
                return replace(self, checkpoint=None, base=f"nothing, as the base does not fit: {misfit}")
            fix = "set [model] as it was trained, or pretrain another"
            raise Refusal(f"model.checkpoint does not fit: {misfit}; {fix}") from misfit
        except ValueError as error:
            if path == BASE:
                raise Refusal(f"the base is damaged: {error}; install foldcast again, or name a file") from error
            fix = "name a file that `foldcast pretrain` has written"
            raise Refusal(f"model.checkpoint does not fit: {error}; {fix}") from error
        learnt = f", learnt from {found.header['data']}" if path != BASE and "data" in found.header else ""
        return replace(self, base=printable(f"{path}{learnt}"))

    def network(self) -> Network:
        """A network with the weights that every shard begins with."""
        network = Network(Shape.of(self.method), self.seed)
        if self.checkpoint is not None:
            network.load(self.checkpoint)
        return network

    def shard(self, offset: int, parts: bool = False) -> Shard:
        """An empty shard with the base weights, in service from `offset`; `parts` as `Shard` has it."""
        return Shard(self.method, self.network(), offset, self.settings, parts)


def format_of(settings: Settings) -> Format:
    """Where an event's fields are and which events are refused."""
    events = settings.events
    return Format(
        stream_field=events.stream_field,
        time_field=events.time_field,
        target_field=events.target_field,
        target_fields=events.target_fields,
        covariates=events.covariates,
        positive=events.transform == "log",
        max_ahead_ms=events.max_ahead_s * 1000,
        times=Times(ZoneInfo(events.timezone), events.earliest_ms, events.numbers == "lenient"),
        numbers=Numbers(events.numbers == "lenient", frozenset(events.missing_values), *events.range),
        outside_is_dead=events.outside_range == "dead_letter",
    )


def schedule_of(settings: Settings) -> Schedule:
    """How often a shard learns, from how much, and how fast."""
    tune = settings.fine_tune
    return Schedule(tune.every_events, tune.streams, tune.learning_rate, tune.clip_norm)


def base_file(cell: Cell) -> Path:
    """Where `make base` puts what it makes; there need not be one for each cell."""
    return Path(__file__).with_name(f"base-{cell}.safetensors")


def _checkpoint(settings: Settings) -> bytes | None:
    """First weights from a file. Raises Refusal where it is not there."""
    path = settings.model.checkpoint
    if path == NO_BASE:
        return None
    file = base_file(settings.model.cell) if path == BASE else Path(path)
    if path == BASE and not file.exists():
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refusal(
            f"model.checkpoint cannot be read ({error}): name a file of weights, or leave it out to begin with the base"
        ) from error
