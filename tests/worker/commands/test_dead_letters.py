"""What `foldcast dead-letters list` prints draws nothing on a terminal, whoever wrote the letters."""

import pytest

from worker.__main__ import main
from worker.broker.contract import LogRecord
from worker.letters import reading

HOSTILE = b"\x1b]0;mine\x07\x1b[2J"


def test_reasons_are_printable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"reason": HOSTILE, "message": HOSTILE, "topic": HOSTILE, "partition": b"0", "offset": b"1"}
    headers = [(f"foldcast-error-{name}", text) for name, text in {**facts, "timestamp": b"1"}.items()]
    monkeypatch.setattr(reading, "bounds", lambda kafka, topic: {0: (0, 1)})
    monkeypatch.setattr(reading, "whole", lambda *place: iter([LogRecord(b"", b"", headers)]))
    assert main(["dead-letters", "list"]) == 0
    said = capsys.readouterr().out
    assert said.count("\\x1b]0;mine") == 4, "the reason twice, the topic and the message once"
    assert all(line.isprintable() for line in said.splitlines())
