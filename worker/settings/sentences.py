"""The one sentence that refuses a setting: its place, its fault and the fix."""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

from pydantic_core import ErrorDetails

from worker.refusal import printable
from worker.settings.settings import NAMES, SECTIONS


class SettingsError(Exception):
    """A setting cannot be used; the message is one sentence: the setting, its fault and the fix."""

    def __init__(self, words: str) -> None:
        super().__init__(printable(words))


def sentence(error: ErrorDetails, where: Mapping[str, str]) -> str:
    """Return one sentence: the setting, its place (in words, from `where`), its fault and the fix."""
    message = str(error["ctx"]["error"]) if error["type"] == "value_error" else _plain(error["msg"])
    section, *rest = map(str, error["loc"]) if error["loc"] else ("",)
    if not rest:  # settings that contradict each other, named in the message
        given = next((name for name in re.findall(r"\w+\.\w+", message) if name in where), "")
        return message.replace(given, f"{given} ({where[given]})", 1) if given else message
    key = f"{section}.{rest[0]}"
    standing = f"{key} ({where.get(key, 'the default')})"
    if error["type"] == "extra_forbidden":
        twins = [name for name in NAMES if name.endswith(f".{rest[0]}")]
        return f"{standing} is no setting: {instead(twins[0] if twins else key, NAMES, str)}"
    if not SECTIONS[section].model_fields[rest[0]].repr:
        return f"{standing} cannot be used: {message}"
    verb = "is" if len(rest) == 1 else "holds"
    return f"{standing} {verb} {_shown(error['input'])}: {message}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes neither thousands of digits nor as many brackets
        return "too long to show"
    return text if len(text) < 80 else text[:77] + "..."


def _plain(message: str) -> str:
    """Put a message of pydantic into this project's words."""
    message = re.sub(r"^\w+ should", "it should", message).partition(", unable to parse")[0]
    return message.replace("valid tuple", "list").replace("valid dictionary", "table")


def instead(name: str, known: Iterable[str], written: Callable[[str], str]) -> str:
    """Suggest the known name that an unknown one resembles, as `written`, or to leave it out."""
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    return f"did you mean {written(close[0])}?" if close else "leave it out; docs/settings.md lists all there are"
