"""Settings of what a worker remembers of the recent past: the section `history`."""

from typing import Self

from pydantic import Field, model_validator

from worker.settings.section import Section

MOST = 10_000_000  # points of all streams


class History(Section):
    """What `/api/streams` can tell of the recent past, in memory alone."""

    streams: int = Field(
        default=1000, ge=0, le=100_000, description="streams whose last values and forecasts are remembered; 0: none"
    )
    points: int = Field(default=200, ge=2, le=100_000, description="events of each that are remembered")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.streams * self.points > MOST:
            raise ValueError(
                f"history.streams times history.points is {self.streams * self.points:,}, more than {MOST:,}: make one "
                "of them smaller"
            )
        return self
