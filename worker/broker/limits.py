"""Time limits for client calls that have none of their own, and what the errors of calls mean."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

from kafka.errors import KafkaError, RetriableError

from worker.broker.contract import BrokerError, NotYet
from worker.broker.fixes import fix_for, no_answer
from worker.settings.kafka import Kafka

T = TypeVar("T")


def within(limit_s: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises; TimeoutError when it is not back in time; its daemon thread is left."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed on to the caller, whatever it is
            outcome.set_exception(error)

    Thread(target=run, name="kafka-call", daemon=True).start()
    return outcome.result(max(limit_s, 0.0))


@contextmanager
def asking(kafka: Kafka, what: str, passing: type[NotYet] = NotYet) -> Iterator[None]:
    """Turns the client's errors into ours: `passing` for those that pass, BrokerError for the rest."""
    try:
        yield
    except (RetriableError, TimeoutError) as error:
        raise passing(f"{what}: no answer yet ({error!r})", fix=no_answer(kafka)) from error
    except KafkaError as error:
        raise BrokerError(f"{what}: {error!r}", fix=fix_for(error, kafka, "Read")) from error


class Patience:
    """Until when each partition's asks of one client may stay without an answer."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    @contextmanager
    def asking(self, partition: int, limit_s: float) -> Iterator[None]:
        """Count the time from the first of asks in a row that end with NotYet."""
        try:
            yield
        except NotYet:
            self._until.setdefault(partition, time.monotonic() + limit_s)
            raise
        self.forget([partition])

    def forget(self, partitions: Iterable[int]) -> None:
        """Begin anew to count the time of these partitions."""
        for partition in partitions:
            self._until.pop(partition, None)

    @property
    def over(self) -> bool:
        """The client has left somebody without an answer for too long."""
        return any(until < time.monotonic() for until in self._until.values())
