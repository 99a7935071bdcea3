"""Where compiled kernels are found in an image: numba's own search passes over a directory it cannot write to.

An image holds the kernels of the settings it was made with, on a file system that is read-only when it runs. Kernels
for other settings are compiled into the same directory where that can be written, else into a copy of it in the
directory for temporary files, which may be a volume.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from numba.core.caching import UserProvidedCacheLocator


class ImageCacheLocator(UserProvidedCacheLocator):
    """Finds kernels in an image; NUMBA_CACHE_LOCATOR_CLASSES names this class, NUMBA_CACHE_DIR the directory."""

    @classmethod
    def from_function(cls, py_func: Callable[..., object], py_file: str) -> Self | None:
        """Choose the first that serves: the image's directory, a copy of it, or the image's for reading only."""
        if not os.environ.get("NUMBA_CACHE_DIR"):
            return None
        self = cls(py_func, py_file)
        image = Path(self._cache_path)
        if _writable(image):
            return self
        if (copy := _copied(image)) is not None:
            self._cache_path = str(copy)
        return self

    def ensure_cache_path(self) -> None:
        """Check that a kernel can be kept. Raises OSError where the directory cannot be written to."""
        if not _writable(Path(self._cache_path)):
            raise OSError(
                f"the kernels for these settings are not in {self._cache_path}, and cannot be written there: give the "
                "container a tmpfs at /tmp, or make an image with these settings (--build-arg CONFIG=FILE)"
            )


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _copied(image: Path) -> Path | None:
    """Return the copy, made the first time; it appears only when it is whole. None where none can be made."""
    try:
        home = Path(tempfile.gettempdir()) / f"foldcast-kernels-{os.getuid()}"
        copy = home / f"{image.name}-{image.stat().st_mtime_ns}"  # another image's kernels are others
        if copy.is_dir():
            return copy
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as unfinished:
            whole = shutil.copytree(image, Path(unfinished) / image.name)
            with suppress(OSError):  # another process was quicker
                whole.rename(copy)
    except OSError:
        return None
    return copy
