"""How many streams fit: what is asked for, else what the least of all limits on memory leaves."""

import os
from pathlib import Path

import pytest

from worker.room import COPIES, FEWEST, PROCESS_BYTES, room_for

STREAM = 11_984
GIB = 1 << 30


def cgroups(root: Path, lines: str, limits: dict[str, str]) -> Path:
    """A file system with these limits, for a process in these cgroups."""
    files = {"proc/self/cgroup": lines, **{f"sys/fs/cgroup/{name}": text for name, text in limits.items()}}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def fits(memory: int) -> int:
    return (memory - PROCESS_BYTES) // (COPIES * STREAM)


@pytest.mark.parametrize(
    ("lines", "limits", "memory"),
    [
        ("0::/\n", {"memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ("0::/a.slice/b\n", {"a.slice/b/memory.max": "max\n", "a.slice/memory.max": f"{GIB}\n"}, GIB),
        ("0::/a/b\n", {"a/b/memory.max": f"{GIB}\n", "a/memory.max": f"{2 * GIB}\n"}, GIB),
        ("5:cpu:/x\n4:memory:/x\n", {"memory/x/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ("4:memory:/not/ours\n", {"memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
    ],
)
def test_the_least_limit_of_a_container_counts(lines: str, limits: dict[str, str], memory: int, tmp_path: Path) -> None:
    room = room_for(None, STREAM, cgroups(tmp_path, lines, limits))
    assert room.streams == fits(memory)
    assert f"{memory >> 20} MiB (cgroup limit)" in room.why


def test_the_recent_past_of_streams_takes_its_share(tmp_path: Path) -> None:
    root = cgroups(tmp_path, "0::/\n", {"memory.max": f"{GIB}\n"})
    assert room_for(None, STREAM, root, other_bytes=100 << 20).streams == fits(GIB - (100 << 20))


def test_without_a_container_the_machine_counts(tmp_path: Path) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for root in (tmp_path, cgroups(tmp_path, "0::/\n4:memory:/\n", {"memory.max": "max\n"})):
        room = room_for(None, STREAM, root)
        assert room.streams == max(fits(machine), FEWEST)
        assert "physical memory" in room.why


def test_a_small_container_still_takes_some_streams(tmp_path: Path) -> None:
    assert room_for(None, STREAM, cgroups(tmp_path, "0::/\n", {"memory.max": "1000000\n"})).streams == FEWEST


def test_what_is_asked_for_counts_whatever_there_is(tmp_path: Path) -> None:
    assert room_for(5, STREAM, cgroups(tmp_path, "0::/\n", {"memory.max": "1000000\n"})) == (5, "worker.max_streams")
