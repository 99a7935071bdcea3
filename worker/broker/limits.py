"""Time limits for client calls that have none of their own, and what the errors of calls mean."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

from kafka.errors import KafkaError, RetriableError

from worker.broker.contract import BrokerError, NotYet

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
def asking(what: str) -> Iterator[None]:
    """Turns the client's errors into ours: NotYet for those that pass, BrokerError for the rest."""
    try:
        yield
    except (RetriableError, TimeoutError) as error:
        raise NotYet(f"{what}: no answer yet ({error!r})") from error
    except KafkaError as error:
        raise BrokerError(f"{what}: {error!r}") from error
