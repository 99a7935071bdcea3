"""Which Kafka client the workers of a test have: the environment's, for all that need a real Kafka."""

import os

CLIENT_VARIABLE = "FOLDCAST_KAFKA__CLIENT"
CLIENTS = ("kafka-python", "librdkafka")


def chosen_client() -> str:
    """Return the client that the environment names, else the default."""
    return os.environ.get(CLIENT_VARIABLE) or CLIENTS[0]
