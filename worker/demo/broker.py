"""`python -m worker.demo.broker`: a local Kafka that goes on until Ctrl-C, for the worked examples."""

import argparse
import signal
import sys
from threading import Event

from worker.demo.kafka_node import LocalKafkaError
from worker.demo.local_kafka import BOOTSTRAP_VARIABLE, LocalKafkaUnavailable, local_kafka


def main() -> int:
    """Start the Kafka, print its address and wait. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo.broker", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=9092, metavar="N", help="of loopback (9092)")
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else Kafka would outlive the command
    try:
        with local_kafka(say=lambda line: print(line, flush=True), port=port) as kafka:
            if kafka.home is None:
                print(f"{BOOTSTRAP_VARIABLE} names a Kafka already: {kafka.bootstrap_servers}")
                return 0
            print(f"Kafka is at {kafka.bootstrap_servers} until Ctrl-C; then its data is removed", flush=True)
            Event().wait()
    except (LocalKafkaUnavailable, LocalKafkaError) as error:
        print(f"broker: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
