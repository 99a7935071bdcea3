"""A worker's other parts from its settings: where topics are, how brokers are reached, limits, and learning."""

from pipeline.network.model import Shape
from worker.broker.security import Connection
from worker.failures import DeadLetterCatch
from worker.learning import Learning, LearningPolicy
from worker.lives.snapshot_clock import SnapshotPolicy
from worker.loop import Limits
from worker.observe.metrics import Metrics
from worker.plan import Plan, schedule_of
from worker.publish import Topics
from worker.settings.settings import Settings
from worker.trainer.link import TrainerLink
from worker.trainer.messages import TrainerSetup


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


def learning(settings: Settings, made: Plan, metrics: Metrics) -> Learning:
    """Learning beside the loop; the trainer is started by the loop's first turn."""
    tune = settings.fine_tune
    policy = LearningPolicy(schedule_of(settings), tune.adopt_interval_s, tune.max_cpu_share)
    setup = TrainerSetup(Shape.of(made.method), policy.schedule, tune.window)
    link = TrainerLink(setup, tune.hang_s, lambda why: metrics.trainer_restarts.labels(why).inc())
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
