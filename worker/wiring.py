"""A worker's limits and its learning, from its settings."""

from pipeline.network.model import Shape
from worker.broker.contract import longest_transaction_s
from worker.dead_letters import DeadLetterCatch
from worker.learning import Learning, LearningPolicy
from worker.lives.judge import Judge
from worker.lives.snapshot_clock import SnapshotPolicy
from worker.loop import Limits
from worker.observe.metrics import Metrics
from worker.plan import Plan, schedule_of
from worker.settings.settings import Settings
from worker.topics import Wanted
from worker.trainer.link import TrainerLink
from worker.trainer.messages import TrainerSetup


def limits(settings: Settings, sizes: Wanted, max_streams: int) -> Limits:
    """What the loop is held to, where topics and client let these sizes through, and memory so many streams."""
    worker, events = settings.worker, settings.events
    return Limits(
        min_cycle_s=worker.min_cycle_ms / 1000,
        give_up_s=worker.give_up_s,
        snapshots=SnapshotPolicy(worker.snapshot_events, worker.snapshot_interval_s),
        history_s=worker.changelog_history_s,
        dead=DeadLetterCatch(events.max_dead_in_a_row, events.max_dead_ratio),
        longest_transaction_s=longest_transaction_s(worker.commit_timeout_s),
        dead_letter_bytes=sizes.dead_letter,
        judge=Judge(events.max_ahead_s * 1000, max_streams),
    )


def learning(settings: Settings, made: Plan, metrics: Metrics) -> Learning:
    """Learning beside the loop; the trainer is started by the loop's first turn."""
    tune = settings.fine_tune
    policy = LearningPolicy(schedule_of(settings), tune.adopt_interval_s, tune.max_cpu_share)
    setup = TrainerSetup(Shape.of(made.method), policy.schedule, tune.window)
    link = TrainerLink(setup, tune.hang_s, metrics.trainer_restarted)
    return Learning(policy, link if tune.enabled else None, metrics)
