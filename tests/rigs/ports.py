"""Ports of the loopback for what a test starts."""

from worker.demo.local_kafka import free_ports


def free_port() -> int:
    """A port that nobody listens on now, none of those that the system gives to clients."""
    return free_ports(1)[0]
