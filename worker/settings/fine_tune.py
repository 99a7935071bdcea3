"""Settings of learning: the section `fine_tune`."""

from pydantic import Field

from worker.settings.section import Count, Section, TimeLimit


class FineTune(Section):
    """Learning beside the loop. Units of the gradient are the network's: changes in horizon scales."""

    enabled: bool = Field(
        default=True,
        description="false pins the weights that are in service; of this section only `window` then still counts",
    )
    every_events: Count = Field(
        default=64,
        description="a shard's events between two updates, bounded to 2 to 8 events of each active stream",
    )
    streams: int = Field(default=64, ge=1, le=1024, description="streams in one update, at most")
    window: int = Field(
        default=24, ge=8, le=256, multiple_of=8, description="events an update goes back through, a multiple of 8"
    )
    learning_rate: float = Field(
        default=2e-3,
        gt=0,
        le=1,
        description="Adam's; the first 1,000 updates have four times that, up to 0.008; a base also has a slow chain",
    )
    clip_norm: float = Field(default=1.0, gt=0, description="a gradient with a larger norm is cut to it")
    adopt_interval_s: float = Field(
        default=5, ge=0, le=86_400, description="newer weights come into service and are logged at most so often"
    )
    max_cpu_share: float = Field(
        default=0.25, gt=0, le=1, description="of one CPU core that learning may take, on average"
    )
    hang_s: TimeLimit = Field(default=30, description="a trainer silent for so long is replaced")
