"""Settings of what a worker publishes beside its forecasts: the section `output`."""

from pydantic import Field

from worker.settings.section import Section, Topic


class Output(Section):
    """What is published beside the forecasts, in the same transactions."""

    rows_topic: Topic | None = Field(
        default=None,
        description="forecasts go here too as flat rows, one per horizon, which sinks of databases take as they are",
    )
