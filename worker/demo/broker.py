"""`python -m worker.demo.broker`: a local Kafka that goes on until Ctrl-C, for the worked examples."""

import argparse
import signal
import socket
import sys
from contextlib import closing
from threading import Event

from worker.demo.kafka_node import LocalKafkaError
from worker.demo.local_kafka import (
    BOOTSTRAP_VARIABLE,
    LocalKafkaUnavailable,
    bootstrap_servers_from_environment,
    local_kafka,
)


def main() -> int:
    """Start the Kafka, print its address and wait. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo.broker", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=9092, metavar="N", help="of loopback (9092)")
    port = parser.parse_args().port
    given = bootstrap_servers_from_environment()
    if given is not None:
        print(f"none is started: {BOOTSTRAP_VARIABLE} names one already, at {given}")
        return 0
    why_not = _why_not(port)
    if why_not is not None:
        sentence = f"Kafka cannot have port {port} of 127.0.0.1 ({why_not}): name another with --port"
        print(f"broker: {sentence}", file=sys.stderr)
        return 2
    # SIGTERM would end this and leave Kafka behind; a shell has its background jobs ignore SIGINT
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, signal.default_int_handler)
    try:
        with local_kafka(say=_say, port=port) as kafka:
            _say(f"Kafka is at {kafka.bootstrap_servers} until Ctrl-C; then its data is removed")
            Event().wait()
    except (LocalKafkaUnavailable, LocalKafkaError) as error:
        print(f"broker: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _why_not(port: int) -> str | None:
    """Return why nobody can listen on this port, None where one can."""
    with closing(socket.socket()) as probe:
        # As brokers do: connections that ended do not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            return str(error)
    return None


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
