"""A letter that cannot be sent holds up no other, and no letter is sent that another run has sent meanwhile."""

import pytest

from tests.rigs.letters import TOPIC, Rig, letter
from worker.broker.contract import CommitError, Message
from worker.letters import resending
from worker.letters.reading import note_of


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_a_record_without_key_and_value_holds_up_no_other(rig: Rig) -> None:
    rig.log = [letter(0), letter(1, None, None), letter(2, None), letter(3, value=None)]
    done = rig.last()
    assert (done.sent, rig.sent()) == (3, ["0", "2", "3"])
    assert done.gone == ["in-0-1 has neither key nor value, and such a record cannot be sent: leave it"]


@pytest.mark.parametrize("bad", [{0}, {6}, {2, 3}, {0, 3, 6}, {*range(7)}])
def test_a_letter_that_is_refused_holds_up_no_other(rig: Rig, bad: set[int]) -> None:
    rig.log = [letter(offset, b"bad" if offset in bad else b"k") for offset in range(7)]
    done = rig.last()
    good = [str(offset) for offset in range(7) if offset not in bad]
    assert (done.sent, sorted(rig.sent()), len(done.gone)) == (len(good), good, len(bad))
    assert all(f"the record of 0:{offset} is refused" in " ".join(done.gone) for offset in bad)
    done = rig.last()
    assert (done.sent, done.before, len(done.gone)) == (0, len(good), len(bad)), "they are tried again, and only they"


def test_what_another_run_sent_while_a_part_was_refused_is_not_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resending, "MOST_LETTERS", 3)
    rig.log = [letter(0), letter(1, b"bad"), *map(letter, range(2, 6))]
    note = Message(TOPIC, 0, b"foldcast-resent-0", b'{"offsets": [0, 3, 4]}', [("foldcast-resent", b"3")])
    monkeypatch.setattr(rig, "renew", lambda: rig.note(note) if len(rig.log) < 7 else None)
    done = rig.last()
    assert (done.sent, done.before, sorted(rig.sent()), len(done.gone)) == (2, 3, ["2", "5"], 1)


def test_only_this_groups_letters_of_the_input_as_it_is_now_are_sent(rig: Rig) -> None:
    others = [{"group": "other"}, {"source": "deleted"}, {"topic": "other"}, {"partition": "7"}]
    rig.log = [letter(0), letter(1, source=""), *(letter(n, **other) for n, other in enumerate(others, 2))]
    done = rig.last()
    assert (done.sent, done.foreign, rig.sent()) == (2, 4, ["0", "1"])
    rig.input_id = ""
    assert rig.last().sent == 1, "nobody knows which input this is"


def test_any_other_failure_ends_it(rig: Rig) -> None:
    rig.log, rig.error = [letter(0), letter(1, b"bad")], CommitError
    with pytest.raises(CommitError):
        rig.last()
    assert (rig.sent(), rig.renewed) == ([], 0)


def test_notes_name_what_was_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resending, "MOST_LETTERS", 2)
    rig.log = [*map(letter, range(3))]
    assert rig.last().sent == 3
    assert [note_of(record) for record in rig.log[3:]] == [[0, 1], [2]]


def test_notes_outlive_compaction(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resending, "MOST_LETTERS", 2)
    rig.log = [letter(offset, b"%d" % offset) for offset in range(5)]
    assert rig.last().sent == 5
    rig.log = list({record.key: record for record in rig.log}.values())
    done = rig.last()
    assert (done.sent, done.before) == (0, 5)
