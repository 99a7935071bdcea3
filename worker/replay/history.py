"""An image of then, out of a changelog: what was deleted or written over since is there until the log is compacted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from pipeline.durable.image import (
    MARKER_KEY,
    REFUSED_PREFIX,
    WEIGHTS_PREFIX,
    Image,
    ImageError,
    decode_marker,
    read_image,
)
from worker.broker.contract import LogRecord
from worker.refusal import Refusal

Records = dict[bytes, bytes]  # the last value of each key


@dataclass
class _Search:
    """What one reading of a changelog finds."""

    offset: int | None = None  # of the image to begin at; None: there is none
    image: Records = field(default_factory=dict)  # the log up to its marker
    since: Records = field(default_factory=dict)  # what came into service or was refused after it, deleted or not
    earliest: int | None = None  # offset of the first whole image, where there is none to begin at
    damage: Exception | None = None  # why the last that cannot be read cannot


def image_of_then(
    changelog: Callable[[], Iterable[LogRecord]], partition: int, first: int | None, low: int, end: int
) -> Image:
    """Return the newest image at or before `first` (None: the oldest there is), whose input is there from `low` on.

    Its adoptions and refused events are those that a restore up to `end` would have found. `changelog` begins to read
    the log, a second time where the image turns out to be damaged. Raises Refusal where there is none, and names the
    earliest offset that there is one for.
    """
    found = _search(changelog(), first, low, end)
    try:
        image = read_image(found.image.items())
    except ImageError:
        found = _search(changelog(), first, low, end, careful=True)
        image = read_image(found.image.items())
    if found.offset is None:
        raise Refusal(_out_of_reach(partition, first, found))
    try:
        return _until(end, image, read_image(found.since.items()))
    except ImageError as why:
        raise Refusal(
            f"the changelog of partition {partition} is damaged behind the image at {found.offset}: {why}; try a --to "
            "before the damage or a --from after it"
        ) from why


def _search(changelog: Iterable[LogRecord], first: int | None, low: int, end: int, careful: bool = False) -> _Search:
    """Read up to the image at or beyond `end`, before which all lies that holds below; only what is asked for is kept.

    An image that there may be a later one for is only decoded by a `careful` search.
    """
    found, latest = _Search(), Records()
    for key, value, *_ in changelog:
        if not key:  # null: not a worker's
            continue
        if value is None:
            latest.pop(key, None)
            continue
        latest[key] = value
        if key != MARKER_KEY:
            if found.offset is not None and key.startswith((WEIGHTS_PREFIX, REFUSED_PREFIX)):
                found.since[key] = value
            continue
        try:
            marker = decode_marker(value)
            _drop(latest, marker.weights)
            if marker.offset < low:
                continue
            wanted = found.offset is None if first is None else marker.offset <= first
            if not wanted and found.offset is not None:
                if marker.offset >= end:
                    break
                continue
            if careful or not wanted or first is None:
                read_image(latest.items())
            if not wanted:
                found.earliest = marker.offset
                break
            found.offset, found.image, found.since = marker.offset, dict(latest), {}
        except (ValueError, msgspec.MsgspecError, RecursionError) as why:  # damaged, or compacted since, in part
            found.damage = why
    return found


def _drop(latest: Records, weights: int) -> None:
    """Let go of adoptions before one that is in service: the changelog keeps them for as long as it is told to."""
    adoptions = [key for key in latest if key.startswith(WEIGHTS_PREFIX) and key.removeprefix(WEIGHTS_PREFIX).isdigit()]
    for key in adoptions:
        if int(key.removeprefix(WEIGHTS_PREFIX)) < weights:
            del latest[key]


def _until(end: int, image: Image, later: Image) -> Image:
    """Return the image with what came later, as far as it holds below `end`."""
    assert image.marker is not None, "an image of then has a marker"
    begin = image.marker.weights
    weights = {at: data for at, data in (image.weights | later.weights).items() if at == begin or begin < at < end}
    refused = {entry.offsets[0]: entry for entry in [*image.refused, *later.refused]}
    entries = [refused[offset] for offset in sorted(refused)]
    return Image(image.marker, image.pages, weights, image.good, image.base, entries)


def _out_of_reach(partition: int, first: int | None, found: _Search) -> str:
    damaged = f"; another cannot be read: {found.damage}" if found.damage else ""
    if found.earliest is None:
        return f"the changelog of partition {partition} holds no whole image whose input is still there{damaged}"
    return (
        f"no image is left at or before offset {first} of partition {partition}: the earliest that a replay can start "
        f"from is {found.earliest}, and worker.changelog_history_s keeps more from now on{damaged}"
    )
