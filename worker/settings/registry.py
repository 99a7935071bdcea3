"""Settings of the schema registry: the section `registry`."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from worker.settings.section import Name, Section, TimeLimit, like

Address = Annotated[
    Name,
    like(
        r"https?://[^\s/@?#]+(/[^\s?#]*)?",
        "write http:// or https://, a host and a path if need be, as in http://registry:8081; a log-in has settings "
        "of its own",
    ),
]


class Registry(Section):
    """The schema registry, where `events.format` needs one."""

    url: Address | None = Field(
        default=None,
        repr=False,  # somebody may have written a password into it
        description="where its API of Confluent's form begins, as in `http://registry:8081`, or of Apicurio "
        "`http://registry:8080/apis/ccompat/v7`",
    )
    timeout_s: TimeLimit = Field(default=3, description="an answer may take so long, and all partitions wait for it")
    username: Name | None = Field(default=None, description="for a log-in with name and password")
    password: SecretStr | None = Field(default=None, repr=False, description="for the same; a secret")
    token: SecretStr | None = Field(default=None, repr=False, description="for a log-in with a bearer token; a secret")
    ssl_cafile: Name | None = Field(default=None, description="certificates to trust, a PEM file; else the system's")
    ssl_certfile: Name | None = Field(default=None, description="the worker's own certificate, a PEM file")
    ssl_keyfile: Name | None = Field(default=None, description="its key, where `ssl_certfile` does not hold it")
    ssl_password: SecretStr | None = Field(default=None, repr=False, description="opens the key; a secret")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        given = [name for name in type(self).model_fields if name != "url" and name in self.model_fields_set]
        if given and self.url is None:
            raise ValueError(f"registry.{given[0]} does nothing without registry.url: set it, or leave the other out")
        if (self.username is None) != (self.password is None):
            raise ValueError("registry.username and registry.password belong together: set both or neither")
        if self.username is not None and self.token is not None:
            raise ValueError("registry.username and registry.token are both given: leave one of the log-ins out")
        if self.username is not None and ":" in self.username:
            raise ValueError("registry.username has a colon, which ends a name in this log-in: use another")
        secure = self.url is not None and self.url.startswith("https:")
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password"):
            if getattr(self, name) is not None and not secure:
                raise ValueError(f"registry.{name} does nothing while registry.url is not https: change one of them")
        for name in ("ssl_keyfile", "ssl_password"):
            if getattr(self, name) is not None and self.ssl_certfile is None:
                raise ValueError(f"registry.{name} belongs to a certificate: set registry.ssl_certfile")
        return self
