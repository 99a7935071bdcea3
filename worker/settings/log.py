"""Settings of the log: the section `log`."""

from typing import Literal

from pydantic import Field

from worker.settings.section import Section


class Log(Section):
    """The lines written to standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is written")
    format: Literal["text", "json"] = Field(default="text", description="for people, or for a collector")
