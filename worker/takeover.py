"""`foldcast run --from-group OLD`: what a new group has to know of OLD before it joins, once OLD has ended."""

from collections.abc import Sequence
from dataclasses import replace

from worker import topics
from worker.broker.admin import Member, describe, members, standing
from worker.broker.stable import stable_offsets
from worker.lives.predecessor import Predecessor, unknown
from worker.refusal import Refusal, WrongUsage
from worker.settings.settings import Settings

NAMED = 3  # members in a sentence


class StillRunningError(Exception):
    """The predecessor has members: nothing is wrong, and nothing can be taken over yet."""


def check_usage(settings: Settings, group: str) -> None:
    """Raises WrongUsage where a group would succeed itself."""
    if group == settings.kafka.group_id:
        raise WrongUsage(f"--from-group {group} is kafka.group_id itself: give the new workers another kafka.group_id")


def predecessor_of(settings: Settings, group: str) -> Predecessor | None:
    """Return how far the group got, None where nothing is left to take over from it.

    Raises StillRunningError while it has members, Refusal, NotYet while a transaction holds an offset, BrokerError.
    """
    names = topics.names_of(settings)
    found = standing(settings.kafka, names.names)
    begun = found.offsets.keys()
    if begun >= found.changelog.keys():
        return None
    if present := members(settings.kafka, group):
        raise StillRunningError(_waits(group, present))
    kafka = settings.kafka.model_copy(update={"group_id": group})
    offsets = stable_offsets(kafka, settings.worker.commit_timeout_s, sorted(found.changelog))
    empty = all(first == end for first, end in found.changelog.values())
    if not offsets and not begun and empty:  # else what each partition needs shows when it is restored
        raise Refusal(unknown(group, names.input))
    letters = f"{group}-dead-letters"
    there = describe(settings.kafka, [letters, names.dead_letters])
    own = letters if letters in there else names.dead_letters
    return Predecessor(replace(names, group=group, dead_letters=own), offsets, there[own].partitions)


def _waits(group: str, present: Sequence[Member]) -> str:
    ids = [member.instance_id or member.client_id for member in present]
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return (
        f"waiting for group {group} to end: {len(ids)} member{'s' * (len(ids) > 1)} ({', '.join(ids[:NAMED])}{more}); "
        "stop its workers, and give their sessions time to end"
    )
