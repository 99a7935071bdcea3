"""Where compiled kernels are found in an image: numba's own search passes over a directory it cannot write to.

An image holds the kernels of the settings it was made with, on a file system that is read-only when it runs. Kernels
for other settings are compiled into the same directory where that can be written, else into a copy of it in the
directory for temporary files, which may be a volume.

Numba unpickles what it finds, and so runs it. So the copy is read only where it is this user's alone; the directory
that the operator named, only where it belongs to this user, to root or to the owner of the code, and others cannot
write to it. The group may: images give group 0 to users they do not know. Not covered: a directory for temporary files
that is not sticky, where others can put another in a folder's place while the worker runs.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from numba.core.caching import UserProvidedCacheLocator

from worker.refusal import Refusal


class ImageCacheLocator(UserProvidedCacheLocator):
    """Finds kernels in an image; NUMBA_CACHE_LOCATOR_CLASSES names this class, NUMBA_CACHE_DIR the directory."""

    _fault = ""  # of the copy

    @classmethod
    def from_function(cls, py_func: Callable[..., object], py_file: str) -> Self | None:
        """Choose the first that serves: the image's directory, a copy of it, or the image's for reading only.

        Raises Refusal where the image's may hold kernels of somebody else.
        """
        if not os.environ.get("NUMBA_CACHE_DIR"):
            return None
        self = cls(py_func, py_file)
        image = Path(self._cache_path)
        writable = _writable(image)
        _check(image, py_file)
        if writable:
            return self
        try:
            self._cache_path = str(_copied(image))
        except Refusal as error:
            self._fault = str(error)
        except OSError:  # there is no place for it
            pass
        return self

    def ensure_cache_path(self) -> None:
        """Check that a kernel can be kept. Raises Refusal where the directory cannot be written to."""
        if not _writable(Path(self._cache_path)):
            raise Refusal(
                f"the kernels for these settings are not in {self._cache_path}, and cannot be written there"
                + (f", and {self._fault}" if self._fault else ": give the container a tmpfs at /tmp")
                + ", or make an image with these settings (--build-arg CONFIG=FILE)"
            )


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _check(image: Path, code: str) -> None:
    """Raise Refusal where others can put kernels into the image's directory."""
    try:
        found = image.lstat()
    except OSError:  # nor can numba read it
        return
    if not _belongs(found, _owners(code), stat.S_IWOTH):
        raise Refusal(
            f"the kernels in {image} may be somebody else's: it belongs to user {found.st_uid}, can be written to by "
            f"others or is a link (mode {stat.filemode(found.st_mode)}): name another as NUMBA_CACHE_DIR, or mend that"
        )


def _owners(code: str) -> set[int]:
    """Return the users whose kernels are as good as the code: who can change that needs no kernels."""
    return {0, os.getuid(), Path(code).stat().st_uid}


def _belongs(found: os.stat_result, owners: set[int], writers: int) -> bool:
    """Whether it is a directory and no link, of one of the owners, closed to `writers` (bits of a mode)."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid in owners and not found.st_mode & writers


def _copied(image: Path) -> Path:
    """Return the copy, made the first time; it appears only when it is whole.

    Raises Refusal where somebody else may have made it, OSError where none can be made.
    """
    home = Path(tempfile.gettempdir()) / f"foldcast-kernels-{os.getuid()}"
    copy = home / f"{image.name}-{image.stat().st_mtime_ns}"  # another image's kernels are others
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    _check_alone(home)  # after it was made: who came first, made it
    if not os.path.lexists(copy):
        with tempfile.TemporaryDirectory(dir=home) as unfinished:
            whole = shutil.copytree(image, Path(unfinished) / image.name)
            whole.chmod(0o700)  # the image's may let a group write
            with suppress(OSError):  # another process was quicker
                whole.rename(copy)
    _check_alone(copy)
    return copy


def _check_alone(folder: Path) -> None:
    if not _belongs(folder.lstat(), {os.getuid()}, stat.S_IWGRP | stat.S_IWOTH):
        raise Refusal(f"{folder} is not this user's alone: remove it, name another directory as TMPDIR")
