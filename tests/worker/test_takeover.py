"""What `--from-group` refuses before anybody asks a broker."""

import pytest

from worker.refusal import WrongUsage
from worker.settings.sources import load
from worker.takeover import check_usage


def test_a_group_does_not_succeed_itself() -> None:
    settings = load(None, {}, kafka={"group_id": "new"})
    check_usage(settings, "old")
    with pytest.raises(WrongUsage, match=r"--from-group new is kafka\.group_id itself"):
        check_usage(settings, "new")
