"""What a changelog holds, read while workers run: each partition's image, and the state of one stream.

No group is joined and nothing is written. A stream's state is as old as the image: the events since then are in the
input. What only a worker knows, as its lives' numbers, is not here.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.durable.image import Image, ImageError, Marker, OtherSettingsError, read_image
from worker import topics
from worker.broker.admin import bounds, group_offsets, standing
from worker.broker.contract import NotYet, Unreadable
from worker.broker.restore import LogReader, whole
from worker.lives import unfit
from worker.refusal import Refusal
from worker.settings.settings import Settings

Facts = dict[str, Any]  # as JSON has it


@dataclass
class Contents:
    """What one partition's changelog holds, and where the input and the group are."""

    partition: int
    committed: int | None  # C
    input_end: int
    records: int = 0
    bytes: int = 0  # of keys and values
    newest_ms: int | None = None  # when the last record was written
    image: Image | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def marker(self) -> Marker | None:
        """The image's marker; None where there is no whole image."""
        return None if self.image is None else self.image.marker

    def facts(self) -> Facts:
        """Return all in plain numbers: offsets, bytes, seconds."""
        marker, image = self.marker, self.image
        age_s = None if self.newest_ms is None else round(time.time() - self.newest_ms / 1000, 1)
        pages = image.pages if image else []
        return {
            "partition": self.partition,
            "committed": self.committed,
            "input_end": self.input_end,
            "image": marker.offset if marker else None,
            "tail": self.committed - marker.offset if marker and self.committed is not None else None,
            "records": self.records,
            "bytes": self.bytes,
            "newest_s": age_s,
            "model": _version(marker) if marker else None,
            "weights": marker.weights if marker else None,
            "adoptions": len(image.weights) if image else 0,
            "streams": sum(name is not None for page in pages for name in page.names),
            "state_bytes": sum(len(page.rows) for page in pages),
            "problems": self.problems,
        }


def _version(marker: Marker) -> str:
    """The model as forecasts name it."""
    return f"{marker.settings.get('model.cell')}{marker.settings.get('model.hidden_size')}-{marker.weights}"


def contents(settings: Settings) -> Iterator[Contents]:
    """Read each partition's changelog, one after the other. Raises BrokerError, Refusal."""
    kafka = settings.kafka
    found, inputs = standing(kafka, topics.names_of(settings).names), bounds(kafka, kafka.input_topic)
    logs = LogReader(kafka)
    try:
        for partition in sorted(found.changelog):
            one = Contents(partition, found.offsets.get(partition), inputs.get(partition, (0, 0))[1])
            _read(one, logs, kafka.changelog_topic)
            if one.marker is not None:  # it may have moved on while the changelog was read
                one.committed = group_offsets(kafka, kafka.group_id, kafka.input_topic).get(partition)
            one.problems += _problems(one, settings, found.input_id)
            yield one
    finally:
        logs.close()


def _read(one: Contents, logs: LogReader, topic: str) -> None:
    latest: dict[bytes, bytes | None] = {}
    try:
        for record in whole(logs, topic, one.partition):
            if record.key:  # null: not a worker's
                latest[record.key] = record.value
            one.records += 1
            one.bytes += len(record.key or b"") + len(record.value or b"")
            one.newest_ms = record.timestamp_ms
    except (NotYet, Unreadable) as why:
        one.problems.append(f"{why}: {why.fix}")
    try:
        one.image = read_image(latest.items())
    except ImageError as why:
        one.problems.append(f"the changelog of partition {one.partition} holds no whole image: {why}")


def _problems(one: Contents, settings: Settings, input_id: str) -> Iterator[str]:
    """Why the state cannot be gone on with, as far as that is known without making a shard."""
    marker, partition = one.marker, one.partition
    if marker is None:
        if one.committed is not None and not one.records:
            yield unfit.lost_state(partition, one.committed)
        return
    if other := OtherSettingsError.between(marker.settings, settings.meaning()):
        yield unfit.other_image(partition, other)
    if marker.source and input_id not in ("", marker.source):
        yield unfit.other_input(partition, marker.source, input_id, marker.offset)
    if one.committed is None:
        yield f"the group has no offset for partition {partition}: a worker looks for it in the log, or says what to do"
    elif one.image is not None and one.committed < max(marker.offset, one.image.newest):
        yield unfit.behind(partition, one.committed, marker.offset, one.image.newest)


def stream(settings: Settings, name: str, reading: Iterable[Contents]) -> Facts:
    """Return the state of one stream, and where in `reading` it is. Raises Refusal where no image has it."""
    partitions = 0
    for one in reading:
        partitions += 1
        for page in one.image.pages if one.image else []:
            if name in page.names:
                assert one.marker is not None, "an image with pages has a marker"
                return _where(one, one.marker) | _state(settings, one.marker, page.rows, page.names.index(name))
    raise Refusal(
        f"no image of the {partitions} partitions in {settings.kafka.changelog_topic} has a stream {name!r}: it may "
        "have come after the last snapshot (worker.snapshot_interval_s), or have another name"
    )


def _where(one: Contents, marker: Marker) -> Facts:
    since = None if one.committed is None else one.committed - marker.offset
    return {"partition": one.partition, "image": marker.offset, "records_since": since, "model": _version(marker)}


def _state(settings: Settings, marker: Marker, rows: bytes, place: int) -> Facts:
    # They load numba, which the rest does without
    import numpy as np

    from pipeline.explanation import state_of
    from pipeline.records import layout
    from worker.plan import Plan

    plan = Plan.of(settings)
    if why := plan.shard(0).difference(marker):
        raise Refusal(f"the state was written under other settings: {why}; give those with --config")
    return state_of(np.frombuffer(rows, layout(plan.method))[place], plan.method)
