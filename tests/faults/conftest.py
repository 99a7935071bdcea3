"""Faults of the brokers: the tests use the cluster, and the workers as processes, of tests/kafka."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "kafka"))
