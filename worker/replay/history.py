"""An image of then, out of a changelog: what was deleted or written over since is there until the log is compacted."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from pipeline.durable.image import (
    MARKER_KEY,
    REFUSED_PREFIX,
    WEIGHTS_PREFIX,
    Image,
    Marker,
    Refused,
    decode_marker,
    read_image,
)
from worker.broker.contract import LogRecord
from worker.refusal import Refusal


class History(NamedTuple):
    """An image, and all that came after it, deleted or not."""

    image: Image
    marker: Marker
    weights: dict[int, bytes]  # adoptions by the offset they hold from
    refused: list[Refused]

    def until(self, end: int) -> Image:
        """Return the image as a restore up to `end` would have found it."""
        later = {offset: data for offset, data in self.weights.items() if self.marker.weights < offset < end}
        weights = {self.marker.weights: self.image.weights[self.marker.weights], **later}
        refused = {entry.offsets[0]: entry for entry in [*self.image.refused, *self.refused]}
        entries = [refused[offset] for offset in sorted(refused)]
        return Image(self.marker, self.image.pages, weights, self.image.good, self.image.base, entries)


def history_of(changelog: Iterable[LogRecord], partition: int, first: int | None, low: int) -> History:
    """Return the newest image at or before `first` (None: the oldest there is), whose input is there from `low` on.

    Raises Refusal where there is none, and names the earliest offset that there is one for.
    """
    latest, weights, refused = dict[bytes, bytes | None](), dict[int, bytes](), list[Refused]()
    found: Image | None = None
    earliest: int | None = None
    damage: Exception | None = None
    for key, value, *_ in changelog:
        if not key:  # null: not a worker's
            continue
        latest[key] = value
        if value is None:  # what is deleted now was in force before
            continue
        try:
            if key.startswith(WEIGHTS_PREFIX) and key.removeprefix(WEIGHTS_PREFIX).isdigit():
                weights[int(key.removeprefix(WEIGHTS_PREFIX))] = value
            elif key.startswith(REFUSED_PREFIX):
                refused.append(msgspec.json.decode(value, type=Refused))
            elif key == MARKER_KEY:
                offset = decode_marker(value).offset
                wanted = found is None if first is None else offset <= first
                if offset < low or not (wanted or earliest is None):
                    continue
                image = read_image(latest.items())
                earliest = offset if earliest is None else earliest
                found = image if wanted else found
        except (ValueError, msgspec.MsgspecError, RecursionError) as why:  # damaged, or compacted since, in part
            damage = why
    if found is None or found.marker is None:
        damaged = f"; another cannot be read: {damage}" if damage else ""
        raise Refusal(_out_of_reach(partition, first, earliest) + damaged)
    return History(found, found.marker, weights, refused)


def _out_of_reach(partition: int, first: int | None, earliest: int | None) -> str:
    if earliest is None:
        return f"the changelog of partition {partition} holds no whole image whose input is still there"
    return (
        f"no image is left at or before offset {first} of partition {partition}: the earliest that a replay can start "
        f"from is {earliest}, and worker.changelog_history_s keeps more from now on"
    )
