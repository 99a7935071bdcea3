"""The trainer as the process it is: it answers, it dies, it hangs, and its worker dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import Schedule, fine_tune
from pipeline.learning.windows import Windows
from pipeline.network.model import Network, Shape
from tests.rigs.methods import SMALL
from worker.trainer.link import TrainerLink
from worker.trainer.messages import Answer, Offer, TrainerSetup

METHOD = SMALL
SHAPE = Shape.of(METHOD)
LIMIT_S = 60.0


class Watched(TrainerLink):
    """A link that counts why trainers were replaced."""

    def __init__(self, hang_s: float = 30.0) -> None:
        self.replaced: list[str] = []
        setup = TrainerSetup(SHAPE, Schedule(), METHOD.window)
        super().__init__(setup, hang_s, self.replaced.append)


@pytest.fixture
def link() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


def base() -> Adoption:
    return Adoption.base(Network(SHAPE, seed=3))


def sample(seed: int = 0, windows: int = 6) -> Windows:
    rng = np.random.default_rng(seed)
    shapes = (METHOD.window, windows, SHAPE.inputs), (METHOD.window, windows, 2), (windows, 1, 1, 8)
    return Windows(*(rng.normal(size=shape).astype(np.float32) for shape in shapes), np.zeros(windows, np.int64))


def offer(number: int, state: bytes | None, windows: Windows) -> Offer:
    arrays = [array.tobytes() for array in windows]
    return Offer(number, 0, 1, 0, 100 + number, state, windows.labels.shape[1], *arrays)


def until(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {limit_s} s"
        time.sleep(0.01)  # the other end is a process


def answer(link: Watched) -> Answer:
    got: list[Answer] = []

    def come() -> bool:
        said = link.turn()
        return said is not None and not got.append(said)  # type: ignore[func-returns-value]

    until(come, "an answer")
    return got[0]


def ready(link: Watched) -> None:
    until(lambda: link.turn() is None and link.idle, "a trainer")


def gone(pid: int) -> bool:
    """No such process, or one that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_loads_torch_where_the_network_is_torchs_and_not_otherwise(link: Watched) -> None:
    ready(link)
    assert "libtorch" not in Path(f"/proc/{link.pid}/maps").read_text()
    setup = TrainerSetup(Shape("lstm", 4, 8, 1, (1,)), Schedule(), 8)
    other = TrainerLink(setup, LIMIT_S, lambda _: None)
    try:
        until(lambda: other.turn() is None and other.idle, "a trainer")
        assert "libtorch" in Path(f"/proc/{other.pid}/maps").read_text()
    finally:
        other.close()


def test_an_update_in_the_trainer_is_the_update_inline(link: Watched) -> None:
    ready(link)
    expected = base()
    for number in range(1, 4):
        windows = sample(number)
        weights, optimiser, _ = fine_tune(SHAPE, expected.weights, expected.optimiser, windows, Schedule())
        expected = Adoption(weights, optimiser)
        link.send(offer(number, base().dump() if number == 1 else None, windows))
        said = answer(link)
        assert (said.number, said.outcome, said.trained_through) == (number, "updated", 100 + number)
        assert 0 < said.cpu_s < LIMIT_S
        got = Adoption.load(said.state)
        assert got.optimiser.updates == number
        for name, weight in got.weights.items():
            np.testing.assert_allclose(weight, expected.weights[name], rtol=1e-5, atol=1e-7)


def test_a_trainer_answers_large_offers_without_anybody_waiting(link: Watched) -> None:
    ready(link)
    windows = sample(windows=8000)  # more than a channel holds
    link.send(offer(1, base().dump(), windows))
    link.turn()
    assert not link.idle, "the turn has waited for the answer"
    assert answer(link).outcome == "updated"


def test_what_is_not_finite_is_said_and_the_trainer_keeps_its_weights(link: Watched) -> None:
    ready(link)
    bad = sample()
    bad.inputs[0, 0, 0] = np.inf
    link.send(offer(1, base().dump(), bad))
    said = answer(link)
    assert (said.outcome, said.state) == ("nonfinite", b"")
    link.send(offer(2, None, sample()))
    assert Adoption.load(answer(link).state).optimiser.updates == 1


def test_a_killed_trainer_is_replaced_by_one_that_has_to_be_told_the_weights(link: Watched) -> None:
    ready(link)
    link.send(offer(1, base().dump(), sample()))
    answer(link)
    first, generation = link.pid, link.generation
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: link.turn() is None and link.idle and link.pid != first, "another trainer")
    assert (link.replaced, link.generation) == (["died"], generation + 1)
    link.send(offer(2, base().dump(), sample()))
    assert answer(link).outcome == "updated"


def test_a_stopped_trainer_is_replaced_after_its_time_and_the_loop_never_waits() -> None:
    link = Watched(hang_s=1.0)
    try:
        ready(link)
        first = link.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        link.send(offer(1, base().dump(), sample(windows=8000)))
        turns, began = 0, time.monotonic()
        while not link.replaced:
            link.turn()
            turns += 1
            assert time.monotonic() - began < LIMIT_S
        assert link.replaced == ["hung"]
        assert turns > 10, "a turn has waited for the one that is stopped"
        until(lambda: gone(first), "the stopped one's end")
        until(lambda: link.turn() is None and link.idle, "another trainer")
    finally:
        link.close()


def test_a_trainer_that_dies_at_once_is_not_started_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # not its parent: it leaves
    link = Watched()
    try:
        for _ in range(2):
            before = len(link.replaced)
            until(lambda: link.turn() is None and len(link.replaced) > before, "its end")  # noqa: B023
        assert link._pause_s == 4.0
    finally:
        link.close()


def test_a_trainer_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Watched()

    def full(*_: object, **__: object) -> None:
        raise BlockingIOError("no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", full)
        link.turn()
        assert (link.replaced, link.idle, link.pid) == (["died"], False, None)
    try:
        until(lambda: link.turn() is None and link.idle, "a trainer")
    finally:
        link.close()


def test_an_answer_that_was_not_asked_for_ends_the_trainer(link: Watched) -> None:
    ready(link)
    link.send(offer(5, base().dump(), sample()))
    link._asked = 6, time.monotonic()
    until(lambda: link.turn() is None and bool(link.replaced), "its end")
    assert link.replaced == ["died"]


def test_updates_are_nice_and_the_one_that_listens_is_not(link: Watched) -> None:
    ready(link)
    assert link.pid is not None
    link.send(offer(1, base().dump(), sample(windows=30_000)))
    levels, own = set[int](), os.getpriority(os.PRIO_PROCESS, 0)

    def nice() -> bool:
        assert link.turn() is None or levels
        for task in Path(f"/proc/{link.pid}/task").iterdir():
            levels.add(int((task / "stat").read_text().rpartition(")")[2].split()[16]))
        return levels == {own, own + 10}

    until(nice, "a nice thread")


def test_a_trainer_ends_with_its_worker_even_while_it_is_stopped(tmp_path: Path) -> None:
    script = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[3])]!r}
from test_trainer import Watched, answer, base, offer, ready, sample
link = Watched()
ready(link)
link.send(offer(1, base().dump(), sample()))
answer(link)
print(link.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        worker.kill()
        until(lambda: gone(pid), "the trainer's end", 10.0)
