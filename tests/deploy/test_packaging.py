"""What the package and the image say of themselves agree, and what is locked is locked by hash."""

import re
import tomllib
from pathlib import Path

import pytest

from worker import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LABELS = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="(.*?)"', (ROOT / "deploy" / "Dockerfile").read_text()))


def test_the_labels_of_the_image_are_those_of_the_package() -> None:
    assert (LABELS["title"], LABELS["licenses"]) == (PROJECT["name"], PROJECT["license"])
    assert (LABELS["source"], LABELS["url"]) == ("${SOURCE}", "${SOURCE}"), "by who publishes them"
    assert (LABELS["version"], LABELS["revision"], LABELS["created"]) == ("${VERSION}", "${REVISION}", "${CREATED}")
    assert f"ARG VERSION={PROJECT['version']}\n" in (ROOT / "deploy" / "Dockerfile").read_text()
    assert PROJECT["version"] == __version__


def test_both_packages_say_that_they_have_types() -> None:
    assert [(ROOT / package / "py.typed").exists() for package in ("pipeline", "worker")] == [True, True]
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert not [one for one in PROJECT["classifiers"] if one.startswith("License")], "the licence is an expression"


@pytest.mark.parametrize("name", ["requirements", "test", "torch", "fuzz", "sbom"])
def test_every_package_of_a_lock_file_has_a_version_and_hashes(name: str) -> None:
    entries = re.split(r"\n(?=\w)", (ROOT / f"{name}.lock").read_text())
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+]+", entry), entry
        assert "--hash=sha256:" in entry, entry
