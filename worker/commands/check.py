"""`foldcast check`: all that a worker can know before it joins its group, from settings to changelog."""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast check --config configs/sensors.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("--json", action="store_true", help="print one object, for programs")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Print what each check found. Returns the exit code: 0 where a worker could start."""
    from worker.check import findings  # it loads numba and the Kafka client

    found = []
    for finding in findings(settings):
        found.append(finding)
        if not given.json:
            print("ok " if finding.ok else "NO ", f"{finding.check}: {finding.says}", flush=True)
    ok = all(finding.ok for finding in found)
    if given.json:
        print(json.dumps({"ok": ok, "checks": [finding._asdict() for finding in found]}, indent=2))
    return 0 if ok else 1
