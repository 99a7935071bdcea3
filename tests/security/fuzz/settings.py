"""Settings as TOML and as environment variables.

A clean refusal is a SettingsError with one printable sentence. A find is any other exception or another sentence.
"""

import atexit
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.security.fuzz import promise
from worker.settings.method import method_of
from worker.settings.sentences import SettingsError
from worker.settings.settings import NAMES
from worker.settings.sources import PREFIX, load

FOLDER = tempfile.TemporaryDirectory(prefix="foldcast-fuzz-")
atexit.register(FOLDER.cleanup)
FILE = Path(FOLDER.name) / "my.toml"
SPLIT = b"\n---\n"


def one(data: bytes) -> None:
    """Load a file and, before `---` on a line of its own, variables, each a line."""
    variables, found, toml = data.partition(SPLIT)
    lines = variables.decode(errors="replace").replace("\0", "").split("\n") if found else []
    environ = {PREFIX + name: value for name, _, value in (line.partition("=") for line in lines)}
    FILE.write_bytes(toml if found else data)
    try:
        settings = load(FILE, {"FOLDCAST_SECRETS_DIR": FOLDER.name, **environ})
    except SettingsError as error:
        words = str(error)
        promise(words.isprintable() and len(words) > 20, f"a refusal is one sentence: {words[:200]!r}")
        return
    method_of(settings)


def seeds() -> Iterator[bytes]:
    """Yield the examples of this repository, and each setting with values of several kinds."""
    for file in sorted((Path(__file__).parents[3] / "configs").glob("*.toml")):
        yield file.read_bytes()
    for name in NAMES:
        section, key = name.split(".")
        for value in ("7", '"a"', "[1, 2]"):
            yield f"[{section}]\n{key} = {value}\n".encode()
        yield f"{section}__{key}=1".upper().encode() + SPLIT
