"""From settings to the parts that a worker, a back-test and the topic commands are made of."""

from pathlib import Path

import torch

from pipeline.events import Decoder, Format
from pipeline.fine_tune import Schedule
from pipeline.method import Method
from pipeline.model import Shape
from pipeline.table import PAGE_BYTES, Table
from worker.broker.contract import longest_transaction_s
from worker.broker.security import Connection
from worker.durability import SnapshotPolicy
from worker.exchange import Brief
from worker.failures import DeadLetterCatch, Refusal
from worker.learning import Learning, LearningPolicy
from worker.life import Plan
from worker.loop import Limits
from worker.metrics import Metrics
from worker.publish import Topics
from worker.settings import Settings
from worker.trainer_link import TrainerLink

ADOPTION_BYTES = 64 * 1024  # beside the weights themselves


def method(settings: Settings) -> Method:
    """What is forecast and how."""
    model, events, ttl_s = settings.model, settings.events, settings.worker.stream_ttl_s
    return Method(
        horizons=model.horizons,
        quantiles=model.quantiles,
        cell=model.cell,
        hidden_size=model.hidden_size,
        layers=model.layers,
        profile=model.profile,
        season=model.season,
        season_slots=model.season_slots,
        weekly=model.weekly,
        covariates=events.covariates,
        transform=events.transform,
        same_time=events.same_time,
        max_gap=events.max_gap,
        stream_ttl_ms=None if ttl_s is None else ttl_s * 1000,
        window=settings.fine_tune.window,
    )


def event_format(settings: Settings) -> Format:
    """What an event looks like."""
    events = settings.events
    return Format(
        stream_field=events.stream_field,
        time_field=events.time_field,
        target_field=events.target_field,
        covariates=events.covariates,
        positive=events.transform == "log",
        max_ahead_ms=events.max_ahead_s * 1000,
    )


def checkpoint(settings: Settings) -> bytes | None:
    """First weights from a file. Raises Refusal where it is not there."""
    path = settings.model.checkpoint
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Refusal(f"model.checkpoint cannot be read ({error}): name a file of weights, or leave it out") from error


def plan(settings: Settings) -> Plan:
    """What all shards have in common. Raises Refusal where the checkpoint does not fit."""
    torch.set_num_threads(1)  # a step is small, threads cost more than they give; and its bits depend on their number
    made = Plan(
        method=method(settings),
        settings=settings.meaning(),
        decoder=Decoder(event_format(settings)),
        seed=settings.model.seed,
        checkpoint=checkpoint(settings),
        start=settings.kafka.start,
        skip_gaps=settings.worker.on_gap == "skip",
        longest_transaction_s=longest_transaction_s(settings.worker.commit_timeout_s),
    )
    row_bytes = Table(made.method).row_bytes
    if row_bytes > PAGE_BYTES:
        raise Refusal(
            f"model and fine_tune make a stream's state {row_bytes:,} bytes, at most {PAGE_BYTES:,} are possible: ask "
            "for shorter horizons, a smaller hidden_size, fewer layers, season_slots or covariates, or a shorter window"
        )
    try:
        made.network()
    except ValueError as error:
        raise Refusal(f"model.checkpoint does not fit: {error}; set [model] as it was trained") from error
    return made


def topics(settings: Settings) -> Topics:
    """Where records come from and go to."""
    kafka = settings.kafka
    return Topics(
        input=kafka.input_topic,
        output=kafka.output_topic,
        dead_letters=kafka.dead_letter_topic,
        changelog=kafka.changelog_topic,
    )


def limits(settings: Settings) -> Limits:
    """What the loop is held to."""
    worker, events = settings.worker, settings.events
    return Limits(
        min_cycle_s=worker.min_cycle_ms / 1000,
        give_up_s=worker.give_up_s,
        snapshots=SnapshotPolicy(worker.snapshot_events, worker.snapshot_interval_s),
        history_s=worker.changelog_history_s,
        dead=DeadLetterCatch(events.max_dead_in_a_row, events.max_dead_ratio),
    )


def schedule(settings: Settings) -> Schedule:
    """How a shard learns."""
    tune = settings.fine_tune
    return Schedule(tune.every_events, tune.streams, tune.learning_rate, tune.clip_norm)


def learning(settings: Settings, made: Plan, metrics: Metrics) -> Learning:
    """Learning beside the loop; the trainer is started by the loop's first turn."""
    tune = settings.fine_tune
    policy = LearningPolicy(schedule(settings), tune.adopt_interval_s, tune.max_cpu_share)
    brief = Brief(Shape.of(made.method), policy.schedule, tune.window)
    link = TrainerLink(brief, tune.hang_s, lambda why: metrics.trainer_restarts.labels(why).inc())
    return Learning(policy, link if tune.enabled else None, metrics)


def connection(settings: Settings) -> Connection:
    """How to reach the brokers."""
    kafka = settings.kafka
    secret = {name: getattr(kafka, name) for name in ("sasl_password", "ssl_password")}
    return Connection(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=f"foldcast-{kafka.instance_id}",
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_username=kafka.sasl_username,
        ssl_cafile=kafka.ssl_cafile,
        ssl_certfile=kafka.ssl_certfile,
        ssl_keyfile=kafka.ssl_keyfile,
        extra=dict(kafka.client_options),
        **{name: None if value is None else value.get_secret_value() for name, value in secret.items()},
    )


def changelog_record_bytes(made: Plan) -> int:
    """The largest record a changelog can get: a page with its names, or the weights."""
    table = Table(made.method)
    page = max(PAGE_BYTES, table.row_bytes) + table.page_rows * (255 + 5) + 4096
    return max(page, 4 * len(made.network().dump()) + ADOPTION_BYTES)  # an optimiser has three more of each weight
