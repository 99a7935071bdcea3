"""Settings of metrics, health and the status page: the section `http`."""

from pydantic import Field

from worker.settings.section import Name, Section


class Http(Section):
    """Where metrics, health and the status page are served."""

    host: Name = Field(default="0.0.0.0", description="address to listen on")  # noqa: S104 - probes come from other hosts
    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes any free one")
