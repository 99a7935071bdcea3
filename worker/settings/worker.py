"""Settings of the loop, of its memory, and of when it gives up: the section `worker`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from worker.settings.section import Count, Section, TimeLimit, WholeSeconds


class Worker(Section):
    """The loop, its memory, and when it gives up."""

    max_poll_records: int = Field(default=2000, ge=1, le=100_000, description="records of one cycle, at most")
    min_cycle_ms: int = Field(
        default=20, ge=0, le=5000, description="a cycle waits so long for more: a transaction costs the same for one"
    )
    snapshot_events: Count | None = Field(
        default=None,
        description="records of a partition that a crash makes it read again, at most; without it the larger of 50,000 "
        "and 8 per stream",
    )
    snapshot_interval_s: TimeLimit = Field(default=300, description="a snapshot is begun at least so often")
    changelog_history_s: WholeSeconds = Field(default=0, description="older state is kept so long, for replay")
    stream_ttl_s: Count | None = Field(
        default=None, description="a stream idle for so long is forgotten, by record timestamps; without it never"
    )
    max_streams: Count | None = Field(
        default=None,
        description="streams of this worker, all its partitions together: beyond it events of new ones are dead "
        "letters; without it as many as memory holds while they are restored, which the log states at start: set it "
        "where workers share a machine's memory",
    )
    on_gap: Literal["fail", "skip"] = Field(
        default="fail",
        description="where the input no longer holds what a restart must read: stop, or go on and count the gap",
    )
    commit_timeout_s: TimeLimit = Field(default=8, description="a transaction that takes longer has failed")
    stall_exit_s: TimeLimit = Field(default=120, description="leave with an error when the loop hangs for so long")
    give_up_s: TimeLimit = Field(
        default=300,
        description="leave with an error where no transaction has committed for so long while some failed, or a "
        "partition could not be restored",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for name in ("stall_exit_s", "give_up_s"):
            if getattr(self, name) <= self.commit_timeout_s:
                raise ValueError(
                    f"worker.{name} is {getattr(self, name):g}, not more than one commit may take "
                    f"(worker.commit_timeout_s is {self.commit_timeout_s:g}): make it larger"
                )
        return self
