"""The journal: bounded, the newest stays, and a failure that comes again and again takes one place."""

from tests.rigs.clock import Clock
from tests.rigs.loop_rig import METHOD
from worker.observe.journal import MOST_ERRORS, MOST_LETTERS, MOST_MARKS, Journal, Mark, Trouble
from worker.observe.metrics import Metrics, by_label, total


def test_marks_have_their_time_and_the_oldest_make_room(wall: Clock) -> None:
    journal = Journal()
    for number in range(MOST_MARKS + 5):
        wall.now = 1e9 + number
        journal.mark(number % 3, "adopted")
    assert len(journal.marks) == MOST_MARKS
    assert journal.marks[0] == Mark(1_000_000_005_000, 2, "adopted")
    assert journal.marks[-1].time == round(wall.now * 1000)


def test_adoptions_push_no_roll_back_out(wall: Clock) -> None:
    journal = Journal()
    journal.mark(0, "rolled_back")
    for number in range(2 * MOST_MARKS):
        wall.now = 1e9 + number
        journal.mark(0, "adopted")
    assert journal.marks[0].kind == "rolled_back"
    assert len(journal.marks) == MOST_MARKS + 1


def test_a_failure_in_the_same_words_is_counted_and_not_noted_again(wall: Clock) -> None:
    journal = Journal()
    for wall.now in (1e9, 1e9 + 5):
        journal.fail("no broker answers", "see that one runs")
    assert journal.errors == (Trouble(1_000_000_005_000, 10**12, 2, None, "no broker answers", "see that one runs"),)
    journal.fail("no broker answers", "see that one runs", partition=1)
    journal.fail("no broker answers", "see that one runs")
    assert [(one.partition, one.number) for one in journal.errors] == [(1, 1), (None, 3)], (
        "and two in turn take two places"
    )


def test_failures_take_little_room_however_many_and_long_they_are(wall: Clock) -> None:
    journal = Journal()
    for number in range(3 * MOST_ERRORS):
        journal.fail(f"{number} " + "x" * 10_000, "y" * 10_000)
    assert [one.error.split()[0] for one in journal.errors] == [str(n) for n in range(2 * MOST_ERRORS, 3 * MOST_ERRORS)]
    assert {len(one.error) for one in journal.errors} == {len(one.fix) for one in journal.errors} == {MOST_LETTERS}
    for _ in range(2):
        journal.fail("z" * 10_000, "")
    assert journal.errors[-1].number == 2, "cut words are the same words"


def test_a_trainer_that_is_replaced_is_noted_and_no_failure_of_the_loop() -> None:
    metrics = Metrics(METHOD, "test")
    metrics.trainer_restarted("hung")
    assert [one.error for one in metrics.journal.errors] == ["the trainer hung: another one is started"]
    assert (by_label(metrics.trainer_restarts)["hung"], total(metrics.failures)) == (1, 0)
