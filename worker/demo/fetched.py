"""What is fetched once, however many processes want it at the same time."""

import fcntl
import tempfile
from collections.abc import Callable
from pathlib import Path


def once(folder: Path, fetch: Callable[[Path], None]) -> Path:
    """Return the folder, by `fetch` filled where it is not there; it appears when it is whole, or not at all.

    Others who want it wait. What `fetch` raises goes through.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
                whole = Path(unfinished) / folder.name
                fetch(whole)
                whole.rename(folder)
    return folder
