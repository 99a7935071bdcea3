"""What fences a commit: a member's place in the group, as librdkafka writes it."""

from dataclasses import dataclass
from struct import pack, unpack_from
from typing import Protocol

MAGIC = (
    b"CGMDv2:"  # then come the generation, -1 outside the group, group, member, whether there is no instance, instance
)


def metadata_of(group_id: str) -> bytes:
    """Return the metadata of whoever is not in the group."""
    return MAGIC + pack("=i", -1) + group_id.encode() + b"\0\0\1"


def in_group(metadata: bytes | None) -> bool:
    """Whether a broker can fence what is committed with it: generation -1 would be let through unchecked."""
    return metadata is not None and bool(unpack_from("=i", metadata, len(MAGIC))[0] >= 0)


class Member(Protocol):
    """Who is in the group."""

    changes: int  # of its assignment so far

    def metadata(self) -> bytes | None:
        """Return its place in the group now, None where it has none."""


@dataclass(frozen=True)
class Membership:
    """A poll's place in the group."""

    metadata: bytes
    changes: int
    member: Member

    def now(self) -> bytes:
        """Return the metadata to commit with.

        The client joins again by itself, between two polls, and a commit with what was true at the poll would be
        refused then. Which partitions are whose changes in a poll alone: what is revoked is given away only after its
        callback, and who was expelled joins only after the callback that says so. So while no callback came, the
        newest generation is ours to commit with.
        """
        newest = self.member.metadata()
        return newest if newest is not None and self.changes == self.member.changes else self.metadata
