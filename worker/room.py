"""How many streams a worker has room for: as many as it is told, or as the memory there is will hold."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PROCESS_BYTES = 400 << 20  # of a worker and its trainer without streams
TORCH_BYTES = 300 << 20  # more where both load torch
# Of a stream's state, while its shard is restored and grows: records read, pages, the table and the one it grew out of
COPIES = 5
FEWEST = 1000  # so many are let in however little memory there is


class Room(NamedTuple):
    """The most streams of a worker, and how that number came about."""

    streams: int
    why: str


def room_for(wanted: int | None, stream_bytes: int, root: Path = Path("/"), other_bytes: int = 0) -> Room:
    """The most streams of `stream_bytes` each: `wanted`, or what memory holds beside the processes and `other_bytes`.

    `root` is the file system's.
    """
    if wanted is not None:
        return Room(wanted, "worker.max_streams")
    memory, source = memory_there(root)
    other = PROCESS_BYTES + other_bytes
    streams = max((memory - other) // (COPIES * stream_bytes), FEWEST)
    why = f"{memory >> 20} MiB ({source}) without {other >> 20}, {COPIES} times {stream_bytes} bytes a stream"
    return Room(streams, f"{why}, at least {FEWEST}; worker.max_streams sets it")


def memory_there(root: Path = Path("/")) -> tuple[int, str]:
    """Return the bytes that this process may use, and who says so."""
    return min(_limits(root))


def _limits(root: Path) -> Iterator[tuple[int, str]]:
    """Bytes that this process may use, by who says so."""
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "physical memory"
    for file in _cgroup_files(root):
        try:
            yield int(file.read_text()), "cgroup limit"
        except (OSError, ValueError):  # there is none, or it is `max`
            continue


def _cgroup_files(root: Path) -> Iterator[Path]:
    """Where limits of this process's cgroup and those above it stand, of version 2 and of version 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        mount, name = ("", "memory.max") if not controllers else ("memory", "memory.limit_in_bytes")
        if controllers in ("", "memory"):
            group = PurePosixPath(path.lstrip("/"))
            for parent in (group, *group.parents):
                yield root / "sys/fs/cgroup" / mount / parent / name
