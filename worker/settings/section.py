"""The kit of every section: kinds of values, and a table that refuses a name it does not know."""

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)


def like(pattern: str, fix: str) -> AfterValidator:
    """Return a validator of whole texts: those unlike the pattern are refused with the fix."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(fix)
        return value

    return AfterValidator(check)


# What is no text would end in the parser of paths, of hosts or of JSON, and in the log
Name = Annotated[str, Field(min_length=1), like(r"[^\x00-\x1f\x7f]*", "leave out control characters")]
# the JSON decoder takes neither double quotes nor backslashes as part of a name
FieldPath = Annotated[
    Name, like(r'(?:[^"\\]|\\[.0-9])*', "leave out double quotes, and backslashes but those before a dot or a digit")
]
Topic = Annotated[str, like(r"[A-Za-z0-9._-]{1,249}", "use at most 249 letters, digits, dots, dashes and underscores")]
Server = r"(\[[\da-fA-F:]+\]|[^\s,:]+):\d+"
Servers = Annotated[str, like(f"{Server}(,{Server})*", "write host:port, or host:port,host:port")]
Count = Annotated[int, Field(ge=1, le=10**9)]
WholeSeconds = Annotated[int, Field(ge=0, le=10**9)]
TimeLimit = Annotated[float, Field(gt=0, le=86_400)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """One table of the TOML file. `repr=False` marks a value that is never shown, in errors neither."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool(cls, value: object, info: ValidationInfo) -> object:
        wanted = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and wanted is not bool:  # Pydantic would read 0 or 1
            raise ValueError("give a number or a word, not true or false")
        return value


def check_apart(section: str, values: Section, names: tuple[str, ...]) -> None:
    """Raise ValueError where two of the named settings have one value."""
    seen: dict[object, str] = {}
    for name in names:
        value = getattr(values, name)
        other = seen.setdefault(value, name)
        if other != name:
            raise ValueError(f"{section}.{other} and {section}.{name} are both {value!r}: give each its own")
