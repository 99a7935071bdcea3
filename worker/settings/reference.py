"""All settings as Markdown: docs/settings.md is made by this, and a test holds it to it."""

from typing import get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from worker.settings.settings import SECTIONS
from worker.settings.sources import CONFIG, DEFAULT_SECRETS_DIR, PREFIX, SECRETS_DIR

REFERENCE_HEAD = f"""# Settings

They stand in one TOML file (`--config FILE`, or `{CONFIG}`); the defaults run the demo. A setting may also be an
environment variable `{PREFIX}SECTION__NAME`, or a file of that name (small letters will do) in the directory that
`{SECRETS_DIR}` names, `{DEFAULT_SECRETS_DIR}` where there is one: the place for passwords. Lists and tables are
written there as JSON. The environment wins over such files, and these over the TOML file. An empty variable counts as
not set. A name nobody knows, a value out of range and two settings that contradict each other stop the program with
one sentence.
"""


def reference() -> str:
    """All settings as Markdown, the text of docs/settings.md."""
    parts = [REFERENCE_HEAD]
    for section, fields in SECTIONS.items():
        parts.append(f"\n## [{section}]\n\n{fields.__doc__}\n\n| name | default | meaning |\n|---|---|---|\n")
        parts += [f"| `{n}` | {_default(f)} | {_meaning(f)} |\n" for n, f in fields.model_fields.items()]
    return "".join(parts)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return f"`{field.examples[0]}`" if field.examples else ""
    if field.default is None:
        return "none"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    words = [a for kind in (field.annotation, *get_args(field.annotation)) for a in get_args(kind)]
    choices = dict.fromkeys(f"`{w}`" for w in words if isinstance(w, str))
    return f"{field.description}" + (f": {', '.join(choices)}" if choices else "")
