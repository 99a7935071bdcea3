"""What a worker can know before it joins its group, so that one that must refuse disturbs nobody.

Nothing is written, and no member, producer or transaction comes into being.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from pipeline.decoding.schemas import SchemasAway
from pipeline.durable.image import MARKER_KEY, ImageError, Marker, decode_marker
from worker import topics
from worker.broker.admin import Standing, standing
from worker.broker.contract import BrokerError, NotYet, Unreadable
from worker.broker.fixes import allow, allow_group, rights, transactional_id
from worker.broker.restore import LogReader
from worker.lives import unfit
from worker.plan import Plan
from worker.refusal import Refusal
from worker.registry.client import RegistryClient
from worker.registry.decoder import with_registry
from worker.settings.settings import Settings

LOOK_BACK = 500  # records from the end of a changelog where its newest marker is looked for first
FURTHER = 8  # times as many, where it is not there
SILENT = 2  # reads in a row that bring nothing: a dead worker's transaction, which only its successor ends
LOOK_S = 30.0  # for all partitions; what is not found by then is for the restore to judge


class Finding(NamedTuple):
    """One check: its name, whether a worker could go on, and a sentence with the fix where it could not."""

    check: str
    ok: bool
    says: str


def findings(settings: Settings) -> Iterator[Finding]:
    """Check after check, up to the first that makes the next ones pointless. Raises nothing that is a finding."""
    try:
        plan, registry = with_registry(Plan.of(settings), settings)
        yield Finding("settings", True, "they are complete and do not contradict each other")
    except Refusal as why:
        yield Finding("settings", False, str(why))
        return
    if registry is not None:
        try:
            registry.verify()
            yield Finding("registry", True, f"{registry.url} answers and lets this user in")
        except SchemasAway as why:
            yield Finding("registry", False, f"{why}; {why.fix}")
    try:
        checked, _ = topics.check(settings)
        yield Finding("brokers", True, f"{settings.kafka.bootstrap_servers} answers and lets this user in")
    except BrokerError as why:
        yield Finding("brokers", False, f"{why}; {why.fix}")
        return
    except Refusal as why:
        yield Finding("brokers and topics", False, str(why))
        return
    names = ", ".join(str(topic["name"]) for topic in checked)
    yield Finding("topics", True, f"{names} go together, {checked[0]['partitions']} partitions each")
    try:
        yield from _of_group(settings, plan)
    except BrokerError as why:
        yield Finding("group and changelog", False, f"{why}; {why.fix}")
    except Refusal as why:
        yield Finding("group and changelog", False, str(why))


def _of_group(settings: Settings, plan: Plan) -> Iterator[Finding]:
    found = standing(settings.kafka, topics.names_of(settings).names)
    lacking = [*_lacking(settings, found)]
    not_told = f"Write on transactional id {transactional_id(settings.kafka)} shows when a worker starts"
    yield from (Finding("rights", False, why) for why in lacking)
    if not lacking:
        yield Finding("rights", True, f"topics and group can be used; {not_told}")
    wrong = [*_unfit(settings, plan, found)]
    yield from (Finding("changelog", False, why) for why in wrong)
    if not wrong:
        begun = sum(first < end for first, end in found.changelog.values())
        says = f"the state of {begun} partitions fits these settings, {len(found.changelog) - begun} have none yet"
        yield Finding("changelog", True, says)


def verify(settings: Settings, plan: Plan, registry: RegistryClient | None) -> None:
    """See that nothing in the cluster keeps a worker from going on. Raises Refusal with the fix, BrokerError."""
    if registry is not None:
        try:
            registry.verify()
        except SchemasAway as away:
            raise BrokerError(str(away), fix=away.fix) from away
    found = standing(settings.kafka, topics.names_of(settings).names)
    for why in [*_lacking(settings, found), *_unfit(settings, plan, found)]:
        raise Refusal(why)


def _lacking(settings: Settings, found: Standing) -> Iterator[str]:
    """What the user may not do, and needs."""
    kafka = settings.kafka
    for topic, words in rights(kafka, settings.output.rows_topic).items():
        allowed = found.operations.get(topic)
        if missing := [word for word in words.split(" and ") if allowed and word.upper() not in allowed]:
            yield f"the cluster refuses: {allow(kafka, ' and '.join(missing), topic)}"
    if found.group_operations and "READ" not in found.group_operations:
        yield f"the cluster refuses: {allow_group(kafka)}"


def _unfit(settings: Settings, plan: Plan, found: Standing) -> Iterator[str]:
    """Why the state of partitions cannot be gone on with: all that the newest marker of each tells."""
    shard, until_s = plan.shard(0), time.monotonic() + LOOK_S
    logs = LogReader(settings.kafka)
    try:
        for partition, (first, end) in sorted(found.changelog.items()):
            committed = found.offsets.get(partition)
            if first == end:
                if committed is not None:
                    yield unfit.lost_state(partition, committed)
                continue
            try:  # what nobody can read now is for the restore, which leaves the other partitions alone
                marker = _newest_marker(logs, settings.kafka.changelog_topic, partition, (first, end), until_s)
            except NotYet:
                continue
            except (ImageError, msgspec.MsgspecError, RecursionError) as why:
                yield unfit.other_image(partition, ImageError(f"its newest marker cannot be read: {why}"))
                continue
            if marker is not None and (difference := shard.difference(marker)):
                yield unfit.other_image(partition, difference)
            if marker is not None and marker.source and found.input_id not in ("", marker.source):
                yield unfit.other_input(partition, marker.source, found.input_id, marker.offset)
    finally:
        logs.close()


def _newest_marker(
    logs: LogReader, topic: str, partition: int, bounds: tuple[int, int], until_s: float
) -> Marker | None:
    """The last marker in a changelog, which is looked for from the end: a whole one may be large. None: not found."""
    first, end = bounds
    back = LOOK_BACK
    while time.monotonic() < until_s:
        begin = max(first, end - back)
        if (data := _last_marker(logs, topic, partition, begin, until_s)) is not None:
            return decode_marker(data)
        if begin == first:
            break
        back *= FURTHER
    return None


def _last_marker(logs: LogReader, topic: str, partition: int, begin: int, until_s: float) -> bytes | None:
    """Its bytes, among what can be read from `begin` on."""
    found, silent = None, 0
    log = logs.open(topic, partition, begin)
    try:
        while not log.done and silent < SILENT and time.monotonic() < until_s:
            records = log.read(0.5)
            silent = 0 if records else silent + 1
            found = next((one.value for one in reversed(records) if one.key == MARKER_KEY), found)
    except Unreadable:  # the restore says so, and goes on with the other partitions
        pass
    finally:
        log.close()
    return found
