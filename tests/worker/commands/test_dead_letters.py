"""What `foldcast dead-letters list` prints draws nothing on a terminal, whoever wrote the letters."""

import pytest

from tests.rigs.letters import letter
from worker.__main__ import main
from worker.letters import reading

HOSTILE = "\x1b]0;mine\x07\x1b[2J"


def test_reasons_are_printable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = letter(0, reason=HOSTILE, message=HOSTILE, topic=HOSTILE)
    monkeypatch.setattr(reading, "bounds", lambda kafka, topic: {0: (0, 1)})
    monkeypatch.setattr(reading, "whole", lambda *place: iter([hostile]))
    assert main(["dead-letters", "list"]) == 0
    said = capsys.readouterr().out
    assert said.count("\\x1b]0;mine") == 4, "the reason twice, the topic and the message once"
    assert all(line.isprintable() for line in said.splitlines())
